"""Start child processes that end when we end, however we end.

Two nets, because each has a hole. The kernel sends a child's death signal when its parent dies (Linux), but only to
the direct child: a worker's pool processes would live on. And a watchdog process holds the read end of a pipe whose
write end only we hold: at its end-of-file it ends every process group that we started. The watchdog alone would miss
a `kill -9` that takes it together with us.

The watchdog is this file run as a script, so the file imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

# What orderly servers get to end by themselves once their owner is gone, before SIGKILL.
GRACE_S = 8.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Guard:
    """The process groups we started, and the watchdog that ends them should we die.

    Not for use from several threads: Linux sends the death signal when the *thread* that started a child ends.
    """

    def __init__(self) -> None:
        read_fd, self._write_fd = os.pipe()
        # A session of its own: neither Ctrl-C nor a kill of our process group reaches the watchdog.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=read_fd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.close(read_fd)
        self._pid = os.getpid()
        self._children: list[subprocess.Popen[bytes]] = []
        self._prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def spawn(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        death_signal: signal.Signals = signal.SIGKILL,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
        group: int | None = None,
        keep_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start `argv` as the leader of a session and process group of its own, its output appended to `log`.

        death_signal: what the leader gets when we die; the rest of its group gets SIGKILL.
        user, group: drop to these ids; `cwd` is entered before, so it may lie where they could not go.
        keep_fds: descriptors of ours that the child inherits under the same numbers.
        """

        def register() -> None:
            """Runs in the child between fork and exec, so no moment lies between being born and being on the list."""
            os.write(self._write_fd, b"+%d %d\n" % (os.getpid(), death_signal))
            if self._prctl is not None:
                self._prctl(PR_SET_PDEATHSIG, int(death_signal))
                if os.getppid() != self._pid:  # we died before the signal was armed
                    os._exit(1)

        with log.open("ab") as output:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                user=user,
                group=group,
                extra_groups=None if user is None else (),
                pass_fds=tuple(keep_fds),
                start_new_session=True,
                # subprocess calls this after it dropped the privileges, which would clear the death signal again.
                preexec_fn=register,
            )
        self._children.append(process)
        return process

    def reap(self, process: subprocess.Popen[bytes]) -> int | None:
        """The return code of a child that has ended, after killing what it left behind; None while it runs."""
        if process.returncode is not None:
            return process.returncode
        # WNOWAIT leaves a zombie that keeps the process group's number from being given to anyone else.
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of zombies is "not permitted"
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._write_fd, b"-%d 0\n" % process.pid)
        self._children.remove(process)
        return process.wait()

    def wait(self, process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
        """Wait until the child has ended and reap it; None when it still runs after `timeout_s`."""
        until = time.monotonic() + timeout_s
        while (code := self.reap(process)) is None and time.monotonic() < until:
            time.sleep(0.01)
        return code

    def end(self, process: subprocess.Popen[bytes], stop_signal: signal.Signals, timeout_s: float) -> int:
        """Ask the leader to stop; kill its whole group when it has not after `timeout_s`."""
        if self.reap(process) is None:
            process.send_signal(stop_signal)
            if self.wait(process, timeout_s) is None:
                self.kill(process)
        return process.wait()

    def kill(self, process: subprocess.Popen[bytes]) -> int:
        """Kill the child's whole group, and reap it."""
        if self.reap(process) is None:
            os.killpg(process.pid, signal.SIGKILL)
            while self.reap(process) is None:
                time.sleep(0.01)
        return process.wait()

    def close(self) -> None:
        """End what still runs, and the watchdog."""
        os.close(self._write_fd)
        while self._watchdog.poll() is None:
            for child in self._children:
                child.poll()  # a zombie would keep its group alive in the watchdog's eyes
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def watch() -> None:
    """The watchdog: keep the list that comes in on standard input; at its end, end what is on it."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    death_signals: dict[int, int] = {}
    for line in sys.stdin.buffer:
        group, death_signal = (int(word) for word in line.split())
        if group > 0:
            death_signals[group] = death_signal
        else:
            death_signals.pop(-group, None)

    for group, death_signal in death_signals.items():
        with contextlib.suppress(OSError):
            (os.killpg if death_signal == signal.SIGKILL else os.kill)(group, death_signal)
    until = time.monotonic() + GRACE_S
    while any(map(_is_alive, death_signals)) and time.monotonic() < until:
        time.sleep(0.02)
    for group in death_signals:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    watch()
