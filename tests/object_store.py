"""A server that speaks S3, as a process of its own, and settings that name buckets of it."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from services.local.guard import Guard
from shared.s3 import S3
from shared.settings import Settings

START_TIMEOUT_S = 60
#: What moto takes for any client's; only a server that checks signatures would know others.
ACCESS_KEY = "reelmap"
SECRET_KEY = "secret"


class ObjectStore:
    """moto's server. What is in it lives as long as the process."""

    def __init__(self, guard: Guard, log: Path) -> None:
        self._guard = guard
        self._log = log
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        program = Path(sys.executable).with_name("moto_server")
        arguments = (sys.executable, str(program), "-H", "127.0.0.1", "-p", str(self.port))
        self._process = self._guard.spawn(arguments, log=self._log)
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if time.monotonic() > give_up_at or self._guard.reap(self._process) is not None:
                raise RuntimeError(f"moto's server did not start: {self._log.read_text()[-1000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return _request("GET", f"{self.endpoint}/moto-api/").ok
        except requests.exceptions.ConnectionError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._guard.kill(self._process)

    def new_bucket(self, prefix: str = "") -> dict[str, Any]:
        """Settings that name a new bucket, with what names in it start with."""
        bucket = f"bucket-{next(self._numbers)}"
        settings = self.settings(f"{bucket}/{prefix}")
        S3(Settings(**settings)).client.create_bucket(Bucket=bucket)
        return settings

    def settings(self, bucket: str) -> dict[str, Any]:
        """Settings that name a bucket, whether it is there or not."""
        return {
            "blobs_bucket": bucket,
            "s3_endpoint": self.endpoint,
            "s3_access_key": ACCESS_KEY,
            "s3_secret_key": SECRET_KEY,
        }


def refusal(status: int, code: str) -> bytes:
    """The bytes of an answer by which a store that speaks S3 refuses anything."""
    body = f"<Error><Code>{code}</Code><Message>Not now.</Message></Error>".encode()
    return f"HTTP/1.1 {status} Refused\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _request(method: str, url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=5)
