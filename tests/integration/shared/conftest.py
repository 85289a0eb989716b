"""Worker and dispatcher processes, started as they are in production."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Started:
    """A process of Reelmap, and what it has said so far."""

    process: subprocess.Popen[bytes]
    log: Path
    alive_file: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, condition: Callable[[], object], *, for_s: float = 30) -> None:
        """Return once the condition holds; fail when it does not in time, or the process ends before."""
        until = time.monotonic() + for_s
        while not condition():
            if self.process.poll() is not None and not condition():
                pytest.fail(f"ended with {self.process.returncode}:\n{self.said}")
            if time.monotonic() > until:
                pytest.fail(f"waited {for_s:g} s in vain:\n{self.said}")
            time.sleep(0.02)

    def wait_for_words(self, words: str) -> None:
        self.wait_for(lambda: words in self.said)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code after the signal."""
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def start(guard, tmp_path) -> Iterator[Callable[..., Started]]:
    """Starts `python -m MODULE` with settings; what still runs at the end is killed."""
    started: list[Started] = []

    def start(module: str, *arguments: str, **settings: object) -> Started:
        name = f"{len(started)}-{module}"
        log, alive_file = tmp_path / f"{name}.log", tmp_path / f"{name}.alive"
        (tmp_path / "blobs").mkdir(exist_ok=True)
        values = {"blobs_folder": tmp_path / "blobs", "work_folder": tmp_path / "work", "alive_file": alive_file}
        environ = {f"REELMAP_{key.upper()}": str(value) for key, value in {**values, **settings}.items()}
        process = guard.spawn([sys.executable, "-m", module, *arguments], log=log, env={**os.environ, **environ})
        started.append(Started(process, log, alive_file))
        return started[-1]

    yield start
    for each in started:
        guard.kill(each.process)
