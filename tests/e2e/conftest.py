"""A whole Reelmap in its embedded form, started as a person starts it, and a web server with clips."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
import requests

from tests.site import serving, write_clips

FINAL = {"succeeded", "partly_failed", "failed", "cancelled"}


@dataclass
class Running:
    """A running Reelmap and a client of its API."""

    folder: Path
    environ: dict[str, str]
    options: tuple[str, ...] = ()
    process: subprocess.Popen[str] = field(init=False)
    base: str = field(init=False)

    def start(self) -> None:
        """`reelmap up`, until it says that it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "up", "--folder", str(self.folder), "--port", "0", *self.options],
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        said = []
        assert self.process.stdout
        for line in self.process.stdout:
            said.append(line)
            if found := re.search(r"Ready: (http://\S+)", line):
                self.base = found[1]
                # Keep reading, or a full pipe would stop it.
                threading.Thread(target=_drain, args=(self.process.stdout,), daemon=True).start()
                return
        pytest.fail("did not start:\n" + "".join(said))

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, and how it ended."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def processes(self) -> list[int]:
        """Ids of all processes that this Reelmap runs: those whose environment names its folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if str(self.folder).encode() in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            url = path if path.startswith("http") else f"{self.base}/api/v1{path}"
            return session.request(method, url, timeout=60, **arguments)

    def get(self, path: str, **arguments: Any) -> Any:
        answer = self.call("GET", path, **arguments)
        assert answer.ok, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, **arguments: Any) -> Any:
        answer = self.call("POST", path, json=body, **arguments)
        assert answer.ok, answer.text
        return answer.json()

    def wait(self, job_id: str, *, for_s: float = 120) -> dict[str, Any]:
        """Poll the job until it is final."""
        job: dict[str, Any] = {}

        def final() -> bool:
            job.update(self.get(f"/jobs/{job_id}"))
            return job["state"] in FINAL

        wait_for(final, for_s=for_s, what=lambda: json.dumps(job, indent=1))
        return job


def _drain(stream: IO[str]) -> None:
    with stream:
        stream.read()


def wait_for(condition: Callable[[], bool], *, for_s: float, what: Callable[[], str] = lambda: "") -> None:
    """Return as soon as the condition holds; fail when it does not in time."""
    until = time.monotonic() + for_s
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {for_s:g} s in vain: {what()}")
        time.sleep(0.1)


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """Clips whose shots are known: each shot is one of six textures, and `twin.mp4` has the bytes of `first.mp4`."""
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, {"first": [0, 1, 2], "second": [2, 3, 4], "third": [5, 0, 3, 1]})
    (folder / "twin.mp4").write_bytes((folder / "first.mp4").read_bytes())
    return folder


@pytest.fixture(scope="session")
def site(clips: Path) -> Iterator[str]:
    """The base URL of a web server on this machine that serves the clips."""
    with serving(clips) as base:
        yield base


NETWORKS = {
    "vit_tiny": {"library": "transformers", "weights": "vit_tiny", "pooling": "class_token"},
    "mobilenet_v2": {
        "library": "torchvision",
        "architecture": "mobilenet_v2",
        "weights": "mobilenet_v2.pth",
        "pooling": "mean",
        "preprocessing": {
            "resize_px": 256,
            "interpolation": "bilinear",
            "crop_px": 224,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
    },
}


@pytest.fixture(scope="session")
def environ() -> dict[str, str]:
    """Settings under which the short faults of these tests pass quickly."""
    environ = {
        "REELMAP_ALLOW_PRIVATE_HOSTS": "yes",
        "REELMAP_HUB": "no",
        "REELMAP_LEASE_S": "6",
        "REELMAP_HEARTBEAT_S": "2",
        "REELMAP_RESEND_AFTER_S": "6",
        "REELMAP_STOP_GRACE_S": "1",
    }
    if data := os.environ.get("REELMAP_DATA_DIR"):
        environ |= {"REELMAP_WEIGHTS_DIR": f"{data}/weights", "REELMAP_OWN_MODELS": json.dumps(NETWORKS)}
    return environ


@pytest.fixture(scope="session")
def running(tmp_path_factory, environ: dict[str, str]) -> Iterator[Running]:
    """The Reelmap that all these tests use; nothing of it is left afterwards."""
    running = Running(tmp_path_factory.mktemp("up") / "reelmap", environ)
    running.start()
    yield running
    if running.process.poll() is None:
        running.stop()
    wait_for(lambda: not running.processes(), for_s=10, what=lambda: f"left over: {running.processes()}")


@pytest.fixture
def reelmap(running: Running) -> Running:
    """A running Reelmap, started again when a test before this one ended it."""
    if running.process.poll() is not None:
        running.start()
    return running


@pytest.fixture
def running_class() -> type[Running]:
    """For a Reelmap of a test's own."""
    return Running


@pytest.fixture
def networks() -> list[str]:
    """Names of the really trained networks."""
    return list(NETWORKS)
