"""A whole Reelmap whose every process, server and connection a fault can reach."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import redis
from sqlalchemy import make_url, text

from services.client import FINAL_STATES, Client
from services.local.guard import Guard
from services.local.postgres import EmbeddedPostgres
from services.local.redis import EmbeddedRedis
from services.local.up import PROCESSES
from shared.blob_stores import open_blobs
from shared.db import Database, migrate
from shared.settings import Settings, load_settings
from shared.threads import patient_threads
from shared.work_folders import PREFIX
from tests.faults.network import Link, Network
from tests.object_store import ObjectStore

LOOK_EVERY_S = 0.05
#: After so long the system ends a connection to Postgres on which nothing is heard (`tcp_user_timeout`, shared/db.py).
POSTGRES_SILENCE_S = 20
SOCKET_NAME = ".s.PGSQL.5432"
#: How long anything of a start may take on a busy machine.
START_TIMEOUT_S = 60


class Broken(AssertionError):
    """What should have happened did not."""


def wait_for(condition: Callable[[], Any], *, for_s: float, what: str | Callable[[], str]) -> float:
    """Return as soon as the condition holds, with the seconds that it took. Raises `Broken`."""
    began_at = time.monotonic()
    while not condition():
        if time.monotonic() - began_at > for_s:
            raise Broken(f"waited {for_s:g} s in vain for {what if isinstance(what, str) else what()}")
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - began_at


@dataclass
class Member:
    """One process of the installation, with its own ways to the servers."""

    name: str
    process: subprocess.Popen[bytes]
    postgres: Link
    redis: Link

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self) -> list[int]:
        """Ids of the processes that its main process started: of a worker, those that do the tasks."""
        return [pid for pid, parent in _parents().items() if parent == self.pid]

    def signal(self, number: signal.Signals) -> None:
        """To the main process alone."""
        self.process.send_signal(number)

    def signal_all(self, number: signal.Signals) -> None:
        """To the main process, its children and theirs."""
        os.killpg(self.pid, number)


def _parents() -> dict[int, int]:
    """Process id → its parent's, for every process of this machine that is no zombie."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                found[int(entry.name)] = int(fields[1])
    return found


class Installation:
    """Postgres, Redis, the API, the dispatcher and the workers, each process behind links of its own.

    Nothing is restarted by itself: what a fault kills stays dead until somebody starts it. Not for several threads.

    environ: settings beside those that follow from `folder`. in_a_bucket: blobs are in an object store, which all
    processes reach by one link, and not in a folder.
    """

    def __init__(self, folder: Path, environ: dict[str, str], *, in_a_bucket: bool = False) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.work = folder / "work"
        self.failpoints = folder / "failpoints"
        for made in (self.logs, self.work, self.failpoints):
            made.mkdir(parents=True)
        self.settings = load_settings(
            {
                "REELMAP_ACCESS": "open",
                "REELMAP_ALLOW_PRIVATE_HOSTS": "yes",
                "REELMAP_HUB": "no",
                "REELMAP_BLOBS_FOLDER": str(folder / "blobs"),
                "REELMAP_WORK_FOLDER": str(self.work),
                "REELMAP_FAILPOINTS_FOLDER": str(self.failpoints),
                "REELMAP_KEYFRAMES_PROCESSES": "2",
                "REELMAP_FETCHES_PER_HOST": "100",
                **environ,
            }
        )
        self.members: dict[str, Member] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._guard = Guard()
        self._network = Network()
        # Paths of sockets must be short.
        self._sockets = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
        self.postgres = EmbeddedPostgres(
            folder / "postgres", self._guard, durable=False, log=self.logs / "postgres.log"
        )
        self.redis = EmbeddedRedis(folder / "redis", self._guard, durable=False, log=self.logs / "redis.log")
        self._database: Database | None = None
        self.object_store = ObjectStore(self._guard, self.logs / "s3.log") if in_a_bucket else None
        self.blobs = open_blobs(self.settings)  # as we reach them, without a link

    def __enter__(self) -> Self:
        self._network.__enter__()
        if self.object_store:
            self._move_into_a_bucket(self.object_store)
        migrate(self.postgres.start())
        self.redis.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            self._database.dispose()
        for name in list(self.members):
            self.end(name, signal.SIGKILL)
        self.redis.stop()
        self.postgres.stop()
        if self.object_store:
            self.object_store.stop()
        self._guard.close()
        self._network.__exit__()
        shutil.rmtree(self._sockets)

    def _move_into_a_bucket(self, object_store: ObjectStore) -> None:
        object_store.start()
        self.settings = replace(self.settings, blobs_folder=None, **object_store.new_bucket())
        self.blobs = open_blobs(self.settings)
        self._store_link = self._network.link(lambda: object_store.port)
        self.settings = replace(self.settings, s3_endpoint=f"http://127.0.0.1:{self._store_link.listens_at}")

    # --- Processes

    def start(self, *names: str, environ: Mapping[str, str] | None = None, wait: bool = True, **changes: Any) -> None:
        """Start processes: a name is a service's, with `-2` and so on for further ones.

        environ: variables beside the settings; changes: to the settings; wait: until they say that they are at work.
        """
        for name in names:
            postgres = self._link(name, "postgres")
            broker = self._link(name, "redis")
            settings = self._settings_of(postgres, broker, **changes)
            service = name.partition("-")[0]
            process = self._guard.spawn(
                (sys.executable, "-P", "-m", *PROCESSES[service]),
                log=self.logs / f"{name}.log",
                env={
                    **_without_settings(),
                    **settings.to_environ(),
                    **patient_threads(os.environ),
                    "PYTHONPATH": os.getcwd(),
                    **(environ or {}),
                },
            )
            self.members[name] = Member(name, process, postgres, broker)
            if service == "api":
                self.port = settings.api_port
        for name in names if wait else ():
            self._wait_until_started(name)

    def _settings_of(self, postgres: Link, broker: Link, **changes: Any) -> Settings:
        assert isinstance(postgres.listens_at, Path)
        url = make_url(self.redis.url).set(port=int(str(broker.listens_at)))
        host = quote(str(postgres.listens_at.parent), safe="")
        return replace(
            self.settings,
            **{
                "database_url": f"postgresql+psycopg2://reelmap@/reelmap?host={host}",
                "redis_url": url.render_as_string(hide_password=False),
                "api_port": _free_port(),
                **changes,
            },
        )

    def settings_for_us(self) -> Settings:
        """Settings with which this process can reach the servers, without a link."""
        return replace(self.settings, database_url=self.postgres.url(), redis_url=self.redis.url)

    def _link(self, name: str, server: str) -> Link:
        """The way of a process to a server, which stays when the process is started again."""
        if (name, server) not in self._links:
            self._links[name, server] = self._new_link(name, server)
        return self._links[name, server]

    def _new_link(self, name: str, server: str) -> Link:
        if server == "redis":
            return self._network.link(lambda: int(make_url(self.redis.url).port or 0))
        folder = self._sockets / name
        folder.mkdir()
        return self._network.link(
            lambda: Path(str(make_url(self.postgres.url()).query["host"]), SOCKET_NAME),
            folder / SOCKET_NAME,
            gives_up_s=POSTGRES_SILENCE_S,
        )

    def _wait_until_started(self, name: str) -> None:
        member = self.members[name]
        log = self.logs / f"{name}.log"
        words = {"api": "event=server_started", "dispatcher": "event=leading"}.get(name, "event=worker_started")
        if name.startswith("dispatcher-"):  # waits for the lead
            return

        def has_started() -> bool:
            if self._guard.reap(member.process) is not None:
                raise Broken(f"{name} ended with {member.process.returncode}: {log.read_text()[-2000:]}")
            if name != "api":
                return words in log.read_text()
            return self.answers("/livez")

        wait_for(has_started, for_s=START_TIMEOUT_S, what=f"the start of {name}")

    def crash(self, server: EmbeddedPostgres | EmbeddedRedis) -> None:
        """Kill -9 a server, with whatever it started. Its `start` brings it back."""
        assert server.process is not None
        self._guard.kill(server.process)

    def end(self, name: str, number: signal.Signals = signal.SIGTERM, *, within_s: float = 30) -> float:
        """Send the signal, and wait for the end of the process and of all that it started. Returns the seconds."""
        member = self.members.pop(name)
        if number == signal.SIGKILL:
            if self._guard.reap(member.process) is None:
                member.signal_all(number)
        else:
            member.signal(number)
        return wait_for(lambda: self._guard.reap(member.process) is not None, for_s=within_s, what=f"the end of {name}")

    def is_running(self, name: str) -> bool:
        return self._guard.reap(self.members[name].process) is None

    def log_of(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text()

    # --- The network

    def cut(self, server: str, *names: str, mode: str = "cut", delay_s: float = 0.0) -> None:
        """Change what the links of these processes (all of them, when none is named) to a server do."""
        for name in names or list(self.members):
            self._network.switch(getattr(self.members[name], server), mode, delay_s)

    def heal(self, server: str, *names: str) -> None:
        self.cut(server, *names, mode="pass")

    def disturb_store(self, mode: str, **how: Any) -> None:
        """Change what the link to the object store does."""
        self._network.switch(self._store_link, mode, **how)

    # --- Fail-points

    def order(self, point: str, do: str, **more: Any) -> None:
        """Have the next process that reaches the point do this."""
        for suffix in (".go", ".reached"):
            (self.failpoints / (point + suffix)).unlink(missing_ok=True)
        new = self.failpoints / f"{point}.new"
        new.write_text(json.dumps({"do": do, **more}))
        new.rename(self.failpoints / point)

    def wait_reached(self, point: str, *, for_s: float = 60) -> None:
        wait_for((self.failpoints / f"{point}.reached").exists, for_s=for_s, what=f"fail-point {point}")

    def let_go(self, point: str) -> None:
        (self.failpoints / f"{point}.go").touch()

    def forget_orders(self) -> None:
        for path in self.failpoints.iterdir():
            path.unlink()

    # --- What is known of it

    @property
    def database(self) -> Database:
        """Straight to Postgres, without a link."""
        url = self.postgres.url()
        if self._database is None or self._database.url != url:
            if self._database is not None:
                self._database.dispose()
            self._database = Database(url, application_name="faults")
        return self._database

    def rows(self, statement: str, **values: Any) -> Sequence[Any]:
        with self.database.transaction() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else ()

    def one(self, statement: str, **values: Any) -> Any:
        return self.rows(statement, **values)[0][0]

    def broker(self) -> redis.Redis:
        """A client of Redis, without a link; to be used in a `with`."""
        return redis.Redis.from_url(self.redis.url, socket_timeout=5)

    @property
    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}")

    def answers(self, path: str) -> bool:
        import requests

        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"http://127.0.0.1:{self.port}{path}", timeout=5).ok
        except requests.exceptions.RequestException:
            return False

    def submit(self, urls: Sequence[str], *, models: Sequence[str] = ("hog_color",), **settings: Any) -> str:
        """Submit a job. Returns its id."""
        return str(
            self.client.submit(urls, models=list(models), clustering={"n_clusters": 4, "seed": 7}, **settings)["id"]
        )

    def state_of(self, job_id: str) -> str:
        return str(self.one("SELECT state FROM jobs WHERE id = :job", job=job_id))

    def wait_final(self, job_id: str, *, for_s: float) -> float:
        """Wait until the job is final. Returns the seconds."""
        return wait_for(
            lambda: self.state_of(job_id) in FINAL_STATES,
            for_s=for_s,
            what=lambda: f"the end of job {job_id}: {self.describe(job_id)}",
        )

    def describe(self, job_id: str) -> str:
        """Where the job's tasks stand, for who looks at a failure."""
        return str(
            self.rows(
                """SELECT queue, state, count(*), max(attempt), min(error) FROM tasks WHERE job_id = :job
                GROUP BY queue, state ORDER BY queue, state""",
                job=job_id,
            )
        )

    def wait_running(self, queue: str, *, job_id: str, n: int = 1, for_s: float = 60) -> None:
        """Wait until so many tasks of the job are running."""
        wait_for(
            lambda: self.running(queue, job_id) >= n, for_s=for_s, what=f"{n} running {queue} tasks of job {job_id}"
        )

    def running(self, queue: str, job_id: str) -> int:
        return int(
            self.one(
                "SELECT count(*) FROM tasks WHERE queue = :queue AND job_id = :job AND state = 'running'",
                queue=queue,
                job=job_id,
            )
        )

    def attempts(self, job_id: str) -> int:
        """The most attempts that any task of the job took."""
        return int(self.one("SELECT max(attempt) FROM tasks WHERE job_id = :job", job=job_id))

    def owner_of_running(self, job_id: str, queue: str = "keyframes") -> int:
        """The process that holds a running task of the job."""
        owner = self.rows(
            "SELECT owner FROM tasks WHERE job_id = :job AND queue = :queue AND state = 'running'",
            job=job_id,
            queue=queue,
        )[0][0]
        return int(owner.rpartition(":")[2])

    def leftovers(self) -> list[str]:
        """Folders of work that is not done, or whose process left them behind."""
        # Not by rglob, which fails where a folder goes while it looks.
        return [
            Path(folder, name).relative_to(self.work).as_posix()
            for folder, names, _ in os.walk(self.work)
            for name in names
            if name.startswith(PREFIX)
        ]


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REELMAP_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
