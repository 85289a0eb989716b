"""A file that is touched, and the command that looks at it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.liveness import AliveFile


def probe(*arguments: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "shared.liveness", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_file_touched_just_now_is_alive(tmp_path):
    AliveFile(tmp_path / "alive").touch()
    done = probe(tmp_path / "alive", "--max-age-s", 60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("alive, touched 0 s ago")


def test_an_old_file_is_a_process_that_hangs(tmp_path):
    path = tmp_path / "alive"
    path.touch()
    os.utime(path, (time.time() - 75, time.time() - 75))
    done = probe(path, "--max-age-s", 60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{path} was touched 75 s ago, more than 60 s: the process hangs\n"


def test_no_file_is_a_process_that_has_ended(tmp_path):
    alive = AliveFile(tmp_path / "alive")
    alive.touch()
    alive.remove()
    done = probe(tmp_path / "alive")
    assert done.returncode == 1
    assert "is not there" in done.stderr


def test_a_file_that_cannot_be_written_costs_no_work(tmp_path, caplog):
    AliveFile(tmp_path / "missing" / "alive").touch()
    assert "No such file or directory" in caplog.text


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    alive = AliveFile(None)
    alive.touch()
    alive.remove()
    assert list(Path().iterdir()) == []
