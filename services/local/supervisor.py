"""Everything on one machine: the servers and the processes of Reelmap, started, kept running, and ended together."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from services.local.guard import Guard
from services.local.installation import LOGS, POSTGRES, REDIS, make_folder, refuse_half_restored
from services.local.lock import FolderLock
from services.local.postgres import EmbeddedPostgres
from services.local.redis import EmbeddedRedis
from shared.errors import ErrorKind, PermanentError, ReelmapError
from shared.settings import without_settings

WATCH_INTERVAL_S = 0.2
FIRST_RESTART_DELAY_S = 1.0
MAX_RESTART_DELAY_S = 30.0
# A process that ran this long is not failing at every start: its next restart waits the shortest time again.
STEADY_AFTER_S = 60.0
MAX_LOG_BYTES = 10 * 1024 * 1024
# Of a log's last line, as much as a terminal can bear.
MAX_LINE_BYTES = 1000


@dataclass(frozen=True)
class Child:
    """A process to keep running.

    env: its settings, and other variables; of our own environment it gets what is no setting.
    stop_timeout_s: what it gets to end by itself after `stop_signal`.
    once: ends by itself, and is not started again.
    listener: the socket on which it answers, inherited under the same number. We keep it open as long as the process is
    to run, so that nobody can take its port, and whoever connects while it starts again waits instead of being refused.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 15.0
    once: bool = False
    listener: socket.socket | None = None


@dataclass
class _Kept:
    """Something that runs and is started again when it ends: how to start it, and how that went so far."""

    name: str
    log: Path
    start: Callable[[], subprocess.Popen[bytes]]
    once: bool = False
    log_bytes: int = 0  # of earlier starts
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0  # on the monotonic clock, as is restart_at
    restart_at: float | None = None
    delay_s: float = 0.0


class Supervisor:
    """One Reelmap in one folder, which it locks: data in `postgres` and `redis`, output in `logs`.

    migrate: brings the database at a URL to the newest schema. children: the processes to run, given the URLs of the
    database and of Redis, in the order in which they are asked to stop. say: prints one line for a person.
    All methods belong to one thread, which must outlive the processes (see `Guard`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        migrate: Callable[[str], None],
        children: Callable[[str, str], Sequence[Child]],
        say: Callable[[str], None],
        durable: bool = True,
    ) -> None:
        self._folder = folder.absolute()
        self._migrate = migrate
        self._children = children
        self._say = say
        refuse_half_restored(self._folder)
        make_folder(self._folder / LOGS)
        self._lock = FolderLock(self._folder, "another Reelmap")
        self._guard = Guard()
        self._postgres = EmbeddedPostgres(
            self._folder / POSTGRES, self._guard, durable=durable, log=self._log_of("postgres")
        )
        self._redis = EmbeddedRedis(self._folder / REDIS, self._guard, durable=durable, log=self._log_of("redis"))
        self._servers: list[_Kept] = []
        self._processes: list[tuple[Child, _Kept]] = []

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Start everything, keep it running until SIGINT, SIGTERM or SIGHUP, and stop it.

        A second signal kills what has not stopped yet. `on_ready` is called once everything is started.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        try:
            try:
                self.start()
                on_ready()
                while True:
                    self.watch()
                    time.sleep(WATCH_INTERVAL_S)
            except KeyboardInterrupt:
                self._say("stopping; once more to kill")
            except Exception:
                self.stop()
                raise
            self.stop()
        except KeyboardInterrupt:
            self._say("killing what has not stopped yet")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            self.close()

    def start(self) -> None:
        """Start the servers, bring the schema up to date, start the processes."""
        database_url = self._keep_server("postgres", self._postgres)
        redis_url = self._keep_server("redis", self._redis)
        self._migrate(database_url)
        for child in self._children(database_url, redis_url):
            start = partial(self._spawn, child)
            kept = _Kept(child.name, self._log_of(child.name), start, once=child.once)
            self._processes.append((child, kept))
            self._start(kept)

    def watch(self) -> None:
        """Look once whether everything still runs; start again what has ended. To be called every second or two."""
        for kept in [*self._servers, *(kept for _, kept in self._processes)]:
            if kept.restart_at is None and kept.process is not None:
                code = self._guard.reap(kept.process)
                if code is not None and kept.once:
                    kept.process = None
                elif code is not None:
                    said = _last_line(kept.log, kept.log_bytes) if code > 0 else ""
                    self._plan_restart(kept, f"ended with {_describe(code)}{said and f', saying: {said}'}")
            elif kept.restart_at is not None and time.monotonic() >= kept.restart_at:
                try:
                    self._start(kept)
                except ReelmapError as error:
                    self._plan_restart(kept, f"could not be started: {error}")

    def stop(self) -> None:
        """Stop the processes, all at once, in their order; and when they are gone, Redis and then Postgres."""
        running = [(child, kept.process) for child, kept in self._processes if kept.process is not None]
        for child, process in running:
            if self._guard.reap(process) is None:
                process.send_signal(child.stop_signal)
            if child.listener is not None:
                child.listener.close()
        asked_at = time.monotonic()
        for child, process in running:
            if self._guard.wait(process, asked_at + child.stop_timeout_s - time.monotonic()) is None:
                self._say(f"{child.name} did not stop within {child.stop_timeout_s:g} s and was killed")
                self._guard.kill(process)
        self._processes.clear()
        self._servers.clear()
        self._redis.stop()
        self._postgres.stop()

    def close(self) -> None:
        """End whatever still runs, and give the folder back."""
        self._guard.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self.close()

    def _keep_server(self, name: str, server: EmbeddedPostgres | EmbeddedRedis) -> str:
        url = ""

        def start() -> subprocess.Popen[bytes]:
            nonlocal url
            url = server.start()
            assert server.process is not None
            return server.process

        kept = _Kept(name, self._log_of(name), start)
        self._servers.append(kept)
        self._start(kept)
        return url

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        return self._guard.spawn(
            child.argv,
            log=self._log_of(child.name),
            env={**without_settings(os.environ), **child.env},
            keep_fds=() if child.listener is None else (child.listener.fileno(),),
        )

    def _start(self, kept: _Kept) -> None:
        _rotate(kept.log)
        kept.log_bytes = kept.log.stat().st_size if kept.log.exists() else 0
        try:
            kept.process = kept.start()
        except OSError as error:
            kind = ErrorKind.DISK_FULL if error.errno == errno.ENOSPC else ErrorKind.INTERNAL
            raise PermanentError(kind, f"{kept.name} could not be started in {self._folder}: {error}") from error
        kept.started_at = time.monotonic()
        kept.restart_at = None

    def _plan_restart(self, kept: _Kept, why: str) -> None:
        if time.monotonic() - kept.started_at > STEADY_AFTER_S:
            kept.delay_s = 0.0
        kept.delay_s = min(max(2 * kept.delay_s, FIRST_RESTART_DELAY_S), MAX_RESTART_DELAY_S)
        self._say(f"{kept.name} {why}; starting it again in {kept.delay_s:g} s (its output: {kept.log})")
        kept.restart_at = time.monotonic() + kept.delay_s

    def _log_of(self, name: str) -> Path:
        return self._folder / LOGS / f"{name}.log"


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _last_line(log: Path, since_bytes: int) -> str:
    """What a process said last, of what stands in its log from there on; "" for nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(since_bytes, file.seek(0, os.SEEK_END) - MAX_LINE_BYTES))
            said = file.read().decode(errors="replace").strip()
    except OSError:  # somebody removed it, which must not end everything
        return ""
    line = said.splitlines()[-1] if said else ""
    return "".join(c for c in line if c.isprintable())


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
