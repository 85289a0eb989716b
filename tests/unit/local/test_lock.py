"""FolderLock: one holder, named to whoever comes second, and free again however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from services.local.lock import FolderLock
from shared.errors import PermanentError

HOLDER = """
import pathlib, sys, time
from services.local.lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]), "Reelmap")
print("held", flush=True)
time.sleep(60)
"""


def test_the_second_is_told_who_holds_it(tmp_path):
    with (
        FolderLock(tmp_path, "Reelmap"),
        pytest.raises(PermanentError, match=rf"in use by Reelmap \(started by process {os.getpid()}\)"),
    ):
        FolderLock(tmp_path, "Reelmap")


def test_it_is_free_after_closing(tmp_path):
    FolderLock(tmp_path, "Reelmap").close()
    FolderLock(tmp_path, "Reelmap").close()


def test_it_is_free_after_its_holder_was_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(PermanentError, match=f"process {holder.pid}"):
            FolderLock(tmp_path, "Reelmap")
        holder.send_signal(signal.SIGKILL)
    FolderLock(tmp_path, "Reelmap").close()


def test_a_child_that_inherited_it_keeps_it(tmp_path):
    with FolderLock(tmp_path, "Reelmap") as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(lock.fd,))
    with pytest.raises(PermanentError):
        FolderLock(tmp_path, "Reelmap")
    child.kill()
    child.wait()
    FolderLock(tmp_path, "Reelmap").close()
