"""Guard: nothing that we started outlives us, whichever way we end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from services.local.guard import Guard

# A leader whose own child would live on when only the leader is signalled, as Celery's pool processes would.
FORKING = "import os, time; child = os.fork(); print(child, os.getpid(), flush=True) if child else None; time.sleep(60)"


@pytest.fixture
def pids_in(eventually):
    """The numbers that a child printed to its log, once the line is complete."""

    def pids_in(log):
        assert eventually(lambda: log.exists() and log.read_text().endswith("\n"))
        return [int(word) for word in log.read_text().split()]

    return pids_in


@pytest.fixture
def own_guard():
    with Guard() as guard:
        yield guard


def test_output_goes_to_the_log_and_the_return_code_comes_back(own_guard, tmp_path):
    log = tmp_path / "child.log"
    child = own_guard.spawn([sys.executable, "-c", "print('hello'); raise SystemExit(3)"], log=log)
    assert own_guard.wait(child, 10) == 3
    assert log.read_text() == "hello\n"


def test_a_child_deaf_to_its_stop_signal_is_killed_with_its_group(own_guard, tmp_path, pids_in, eventually, is_running):
    log = tmp_path / "child.log"
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FORKING
    child = own_guard.spawn([sys.executable, "-c", deaf], log=log)
    pids = pids_in(log)
    assert own_guard.end(child, signal.SIGTERM, 0.2) == -signal.SIGKILL
    assert eventually(lambda: not any(map(is_running, pids)))


def test_what_a_dead_child_leaves_behind_is_killed_at_reaping(own_guard, tmp_path, pids_in, eventually, is_running):
    log = tmp_path / "child.log"
    child = own_guard.spawn([sys.executable, "-c", FORKING], log=log)
    grandchild, _ = pids_in(log)
    os.kill(child.pid, signal.SIGKILL)
    assert own_guard.wait(child, 5) == -signal.SIGKILL
    assert eventually(lambda: not is_running(grandchild))


def test_closing_ends_everything(tmp_path, pids_in, is_running):
    log = tmp_path / "child.log"
    with Guard() as guard:
        guard.spawn([sys.executable, "-c", FORKING], log=log)
        pids = pids_in(log)
    assert not any(map(is_running, pids))


OWNER = f"""
import sys, time, pathlib
from services.local.guard import Guard
guard = Guard()
guard.spawn([sys.executable, "-c", {FORKING!r}], log=pathlib.Path(sys.argv[1]))
print(guard._watchdog.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    argv = [sys.executable, "-c", OWNER, str(tmp_path / "child.log")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as owner:
        yield owner
        owner.kill()


def test_a_kill_of_the_owner_takes_child_and_grandchild_along(owner, tmp_path, pids_in, eventually, is_running):
    pids = pids_in(tmp_path / "child.log")
    os.killpg(owner.pid, signal.SIGKILL)
    assert eventually(lambda: not any(map(is_running, pids)))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_a_kill_of_owner_and_watchdog_together_takes_the_child_along(owner, tmp_path, pids_in, eventually, is_running):
    grandchild, child = pids_in(tmp_path / "child.log")
    os.kill(int(owner.stdout.readline()), signal.SIGKILL)
    owner.kill()
    assert eventually(lambda: not is_running(child))
    os.kill(grandchild, signal.SIGKILL)  # out of reach without the watchdog
