"""Looking at processes from outside."""

from __future__ import annotations

import time
from pathlib import Path

import pytest


@pytest.fixture
def is_running():
    """Whether a process is there, and not a zombie that waits for its new parent."""

    def is_running(pid: int) -> bool:
        try:
            return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False

    return is_running


@pytest.fixture
def eventually():
    """Whether a condition comes true within some seconds."""

    def eventually(condition, timeout_s: float = 10.0) -> bool:
        until = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < until:
            time.sleep(0.01)
        return condition()

    return eventually
