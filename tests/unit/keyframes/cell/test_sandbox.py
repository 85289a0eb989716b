"""Each wall holds by itself, seen from a process behind that one wall only."""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.keyframes.cell import sandbox
from services.keyframes.cell.sandbox import Allowance
from shared import landlock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the walls need Linux")
needs_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(sandbox._seccomp() is None, reason=f"{sandbox.SECCOMP_LIBRARY} is not installed")


def behind(wall: Callable[[], None], action: Callable[[], Any]) -> Any:
    """What the action gives, or the name of the error that it raises, in a process that called `wall` first."""
    reading, writing = os.pipe()
    child_pid = os.fork()
    if not child_pid:
        try:
            wall()
            try:
                outcome = action()
            except (OSError, MemoryError) as error:
                outcome = errno.errorcode[error.errno] if isinstance(error, OSError) else type(error).__name__
            os.write(writing, json.dumps(outcome).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read()
    os.waitpid(child_pid, 0)
    return json.loads(said)


def behind_landlock(allowance: Allowance, action: Callable[[], Any]) -> Any:
    def wall() -> None:
        sandbox.give_back_rights()  # without which only root may build it
        sandbox.restrict_files(allowance)

    return behind(wall, action)


@pytest.fixture
def allowance(tmp_path) -> Allowance:
    (tmp_path / "video.mp4").write_text("the video")
    (tmp_path / "video.mp4.key").write_text("a secret")
    (tmp_path / "pictures").mkdir()
    return Allowance(tmp_path / "video.mp4", tmp_path / "pictures", memory_bytes=256 * 2**20, cpu_s=60)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def open_files() -> int:
    files = []
    try:
        while True:
            files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return len(files)


USES = {
    "memory": (lambda folder: len(mmap.mmap(-1, 300 * 2**20)), "ENOMEM"),
    "a large file": (lambda folder: (folder / "large").write_bytes(bytes(sandbox.MAX_FILE_BYTES + 1)), "EFBIG"),
    "a small file": (lambda folder: (folder / "small").write_bytes(bytes(2**20)), 2**20),
}


@pytest.mark.parametrize("use", USES)
def test_use_is_limited(use, allowance) -> None:
    action, outcome = USES[use]

    assert behind(lambda: sandbox.limit_use(allowance), lambda: action(allowance.write)) == outcome


def test_few_files_can_be_open(allowance) -> None:
    assert behind(lambda: sandbox.limit_use(allowance), open_files) <= sandbox.MAX_OPEN_FILES


def test_rights_are_given_back() -> None:
    def rights() -> dict[str, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return {name: int(fields[name], 16) for name in ("CapEff", "CapPrm", "NoNewPrivs")}

    held = behind(sandbox.give_back_rights, rights)

    assert held["NoNewPrivs"] == 1
    assert held["CapEff"] | held["CapPrm"] | sandbox.CAP_DAC_OVERRIDE == sandbox.CAP_DAC_OVERRIDE


def test_a_process_whose_parent_is_gone_does_not_start(allowance) -> None:
    child_pid = os.fork()
    if not child_pid:
        sandbox.die_with(parent_pid=1 if os.getppid() != 1 else 2)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(child_pid, 0)[1]) == -signal.SIGKILL


def connect(listener: socket.socket) -> str:
    with socket.create_connection(listener.getsockname(), timeout=5):
        return "connected"


def reach_abstract_socket(name: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)
        return "connected"


ACCESSES = {
    "the video": (lambda folder, listener: (folder / "video.mp4").read_text(), "the video"),
    "a new picture": (lambda folder, listener: (folder / "pictures" / "1.jpg").write_text("picture"), 7),
    "a module": (lambda folder, listener: len(Path(json.__file__).read_text()) > 0, True),
    "to read a neighbour": (lambda folder, listener: (folder / "video.mp4.key").read_text(), "EACCES"),
    "to read the accounts": (lambda folder, listener: Path("/etc/passwd").read_text(), "EACCES"),
    "to list a folder": (lambda folder, listener: os.listdir(folder), "EACCES"),
    "to change the video": (lambda folder, listener: (folder / "video.mp4").write_text(""), "EACCES"),
    "to write elsewhere": (lambda folder, listener: (folder / "other").write_text(""), "EACCES"),
    "to make a link": (lambda folder, listener: os.symlink("/etc/passwd", folder / "pictures" / "2.jpg"), "EACCES"),
    "to make a second name": (
        lambda folder, listener: os.link(folder / "video.mp4.key", folder / "pictures" / "2.jpg"),
        ("EACCES", "EXDEV"),
    ),
    "to remove": (lambda folder, listener: os.unlink(folder / "video.mp4"), "EACCES"),
    "to run a program": (lambda folder, listener: os.execv("/bin/true", ["true"]), "EACCES"),
    "to connect": (lambda folder, listener: connect(listener), "EACCES"),
    "to listen": (lambda folder, listener: socket.create_server(("127.0.0.1", 0)).fileno(), "EACCES"),
}


@needs_landlock
@pytest.mark.parametrize("access", ACCESSES)
def test_landlock_leaves_the_video_the_pictures_and_the_code(access, allowance, listener) -> None:
    action, outcome = ACCESSES[access]
    if access in ("to connect", "to listen") and landlock.version() < min(landlock.TCP_RIGHTS):
        pytest.skip("this kernel's Landlock knows nothing of TCP")

    got = behind_landlock(allowance, lambda: action(allowance.read.parent, listener))

    assert got in outcome if isinstance(outcome, tuple) else got == outcome


@pytest.mark.skipif(landlock.version() < min(landlock.SCOPES), reason="this kernel's Landlock has no scopes")
def test_landlock_keeps_other_processes_out_of_reach(allowance) -> None:
    name = f"\0reelmap-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        outside = os.getpid()

        assert behind_landlock(allowance, lambda: os.kill(outside, 0)) == "EPERM"
        assert behind_landlock(allowance, lambda: reach_abstract_socket(name)) == "EPERM"


def fork() -> None:
    if not os.fork():
        os._exit(0)


CALLS = {
    "socket": lambda: socket.socket().fileno(),
    "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).fileno(),
    "local socket": lambda: socket.socket(socket.AF_UNIX).fileno(),
    "fork": fork,
    "program": lambda: os.execv("/bin/true", ["true"]),
    "signal": lambda: os.kill(os.getppid(), 0),
    "own session": os.setsid,
    "own group": lambda: os.setpgid(0, 0),
}


@needs_seccomp
@pytest.mark.parametrize("call", CALLS)
def test_the_filter_refuses_to_talk_to_start_and_to_meddle(call) -> None:
    def wall() -> None:
        sandbox.give_back_rights()  # without which only root may set a filter
        sandbox.forbid_calls()

    assert behind(wall, CALLS[call]) == "EPERM"


@needs_seccomp
def test_the_filter_knows_every_call_it_forbids_here() -> None:
    library = sandbox._seccomp()
    unknown = [name for name in sandbox.FORBIDDEN_CALLS if library.seccomp_syscall_resolve_name(name.encode()) == -1]

    assert unknown == []


def test_a_machine_without_walls_says_which_and_limits_hold(allowance, monkeypatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    monkeypatch.setattr(sandbox, "_seccomp", lambda: None)

    missing = " ".join(sandbox.missing_walls())
    parent_pid = os.getpid()

    assert "Landlock" in missing
    assert "libseccomp2" in missing
    assert behind(lambda: sandbox.confine(allowance, parent_pid), open_files) <= sandbox.MAX_OPEN_FILES


@needs_landlock
@needs_seccomp
def test_all_walls_stand_together(allowance) -> None:
    parent_pid = os.getpid()

    assert sandbox.missing_walls() == []
    assert behind(lambda: sandbox.confine(allowance, parent_pid), allowance.read.read_text) == "the video"
