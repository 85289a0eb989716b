"""A whole Reelmap that asks for keys, and the commands that make, use and revoke them while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture
def closed(running_class, tmp_path: Path, environ: dict[str, str]):
    """A Reelmap in a folder of its own that asks for keys, not started yet."""
    closed = running_class(tmp_path / "closed", environ, ("--access", "keys"))
    yield closed
    if getattr(closed, "process", None) and closed.process.poll() is None:
        closed.stop()


def reelmap(*arguments: object, key: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a command as a person does."""
    argv = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    return subprocess.run(argv, env={**os.environ, "REELMAP_KEY": key}, capture_output=True, text=True, check=False)


def test_a_key_is_made_before_the_first_start_and_revoked_while_it_runs(closed) -> None:
    key = reelmap("keys", "add", "ada", "--role", "writer", "--folder", closed.folder).stdout.strip()
    closed.start()
    server = ("--server", closed.base)
    assert closed.call("GET", "/jobs").status_code == 401
    assert "Set REELMAP_KEY" in reelmap("jobs", *server).stderr
    submitted = reelmap("submit", "https://example.invalid/a.mp4", "--model", "hog_color", *server, key=key)
    assert submitted.returncode == 0, submitted.stderr
    other = reelmap("keys", "add", "bob", "--role", "reader", "--project", "films", "--folder", closed.folder)
    assert reelmap("jobs", "--json", *server, key=other.stdout.strip()).stdout.split() == ["{", '"jobs":', "[]", "}"]

    secret = key.rsplit("_", 1)[-1]
    cookie_secret = (closed.folder / "cookie_secret").read_text()
    for pid in closed.processes():
        arguments = Path(f"/proc/{pid}/cmdline").read_text()
        assert secret not in arguments and cookie_secret not in arguments
    logs = "".join(path.read_text() for path in (closed.folder / "logs").iterdir())
    assert "POST /api/v1/jobs" in logs
    assert secret not in logs and cookie_secret not in logs

    assert reelmap("keys", "revoke", "ada", "--yes", "--folder", closed.folder).returncode == 0
    headers = {"Authorization": f"Bearer {key}"}
    until = time.monotonic() + 10
    while closed.call("GET", "/jobs", headers=headers).status_code != 401:
        assert time.monotonic() < until, "the revoked key is still let in"
        time.sleep(0.1)
