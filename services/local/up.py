"""`reelmap up`: which processes make a whole Reelmap on this machine, and with what settings they run."""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import requests

from services.api.openness import by_address
from services.embedding.availability import note_what_loads
from services.local.installation import WORK, blobs_folder_of, make_folder
from services.local.supervisor import Child, Supervisor
from shared import catalog, keys
from shared.db import Database, migrate
from shared.errors import ErrorKind, PermanentError
from shared.pipeline import Queue
from shared.settings import MIN_COOKIE_SECRET, Settings, load_settings
from shared.threads import cores, patient_threads

#: What each process runs, in the order in which they are asked to stop: nothing new comes in while work is ended.
PROCESSES = {
    "api": ("services.api.server",),
    "dispatcher": ("services.dispatcher.main",),
    **{queue.value: queue.worker_arguments for queue in Queue},
}
# What runs once beside them, and is not missed when it has ended.
ONCE = {"models": ("services.local.usable_models",)}
# One video is decoded by one core; beyond so many at a time disk and network are the limit.
MAX_KEYFRAMES_PROCESSES = 8
# Beside the grace that the settings give to running tasks.
STOP_MARGIN_S = 5.0
READY_TIMEOUT_S = 60.0
# Until the API runs, a connection waits for it; so long without a look at the processes is short enough.
READY_ANSWER_S = 2.0
# So many connections wait while the API starts again; gunicorn's own number.
BACKLOG = 2048
COOKIE_SECRET_FILE = "cookie_secret"


def run(
    folder: Path, host: str | None, port: int | None, say: Callable[[str], None], access: str | None = None
) -> None:
    """Run a whole Reelmap with its data in `folder` until SIGINT or SIGTERM.

    host, port, access: None takes the settings'; port 0 takes any free one. say: prints one line for a person. Raises
    PermanentError when the folder or the port is in use, a server cannot start, or nobody has a key where keys are
    asked for; SettingError when it would be open to others.
    """
    settings = settings_for(host, access)
    with listen(settings.api_host, settings.api_port if port is None else port) as listener:
        supervisor = make_supervisor(settings, listener, folder, say=say, durable=True)
        page = page_url(settings.api_host, port_of(listener))
        say(f"Starting Reelmap; its data are in {folder.absolute()}")

        def say_ready() -> None:
            if wait_until_ready(page, supervisor.watch):
                say(f"Ready: {page} (Ctrl-C ends it)")
            else:
                say(f"The page {page} does not answer yet; see {folder.absolute() / 'logs' / 'api.log'}")

        supervisor.run(say_ready)


def settings_for(host: str | None, access: str | None) -> Settings:
    """The person's settings, where the command's options say no other, with access decided.

    Raises `SettingError` for a Reelmap that would be open to others.
    """
    settings = load_settings()
    host = settings.api_host if host is None else host
    return by_address(replace(settings, api_host=host, access=access or settings.access))


def make_supervisor(
    settings: Settings, listener: socket.socket, folder: Path, *, say: Callable[[str], None], durable: bool
) -> Supervisor:
    """The servers and processes of one Reelmap in `folder`, not started yet.

    settings: with access decided, see `by_address`. listener: where the API answers; closed when it is stopped.
    durable: survives a power cut.
    """
    settings = replace(settings, api_port=port_of(listener))
    folder = folder.absolute()
    make_folder(folder)

    def our_children(database_url: str, redis_url: str) -> list[Child]:
        return children(embedded(settings, folder, database_url, redis_url), listener)

    def prepare(database_url: str) -> None:
        migrate(database_url)
        note_models(settings, database_url, say)
        if settings.access != "open":
            require_a_key(database_url, settings.api_host, folder)

    return Supervisor(folder, migrate=prepare, children=our_children, say=say, durable=durable)


def note_models(settings: Settings, database_url: str, say: Callable[[str], None]) -> None:
    """Write down which models this machine has, before anybody asks the API; say so where no job could go without
    naming others. Hubs are asked later, see `ONCE`."""
    database = Database(database_url)
    try:
        problems = note_what_loads(settings, database)
    finally:
        database.dispose()
    known = catalog.models(settings.own_models)
    if not catalog.default_models({name: problems[name] is None if name in problems else None for name in known}):
        why = " ".join(problems[name] or "" for name in catalog.DEFAULT_MODELS)
        say(f"No model that a job takes by default can be loaded here; name others, or get one. {why}")


def require_a_key(database_url: str, host: str, folder: Path) -> None:
    """Raise PermanentError when nobody could sign in, with the command that changes it."""
    database = Database(database_url)
    try:
        with database.transaction() as connection:
            if keys.has_usable_key(connection):
                return
    finally:
        database.dispose()
    raise PermanentError(
        ErrorKind.BAD_PARAMETERS,
        f"On {host} Reelmap answers only who has a key, and there is none yet. Make one, then start again: "
        f"reelmap keys add NAME --role admin --folder {shlex.quote(str(folder))}",
    )


def cookie_secret(folder: Path) -> str:
    """The secret of this folder, made where there is none that can be used; then everybody has to sign in again.

    Raises PermanentError when the file cannot be read or written.
    """
    path = folder / COOKIE_SECRET_FILE
    try:
        found = path.read_text(errors="replace").strip() if path.exists() else ""
        if len(found) < MIN_COOKIE_SECRET or not (found.isascii() and found.isprintable()):
            found = secrets.token_hex(32)
            _write_whole(path, found)
    except OSError as error:
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE,
            f"{path}, which holds what sign-ins are signed with, cannot be used ({error.strerror}). Make it readable "
            "for this user, or delete it; then everybody has to sign in again.",
        ) from None
    return found


def _write_whole(path: Path, content: str) -> None:
    """Write a file that only its owner may read; a power cut leaves what was there, or all of this."""
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def embedded(settings: Settings, folder: Path, database_url: str, redis_url: str) -> Settings:
    """The person's settings with everything in one folder and the counts that fit this machine.

    Pictures are in the folder too, unless the person named a bucket. Raises PermanentError for a bucket when there are
    pictures in the folder.
    """
    blobs_folder, work_folder = blobs_folder_of(settings, folder), folder / WORK
    for made in filter(None, (blobs_folder, work_folder)):
        make_folder(made)
    is_chosen = settings.keyframes_processes != Settings.keyframes_processes
    return replace(
        settings,
        database_url=database_url,
        redis_url=redis_url,
        blobs_folder=blobs_folder,
        work_folder=work_folder,
        cookie_secret=settings.cookie_secret or ("" if settings.access == "open" else cookie_secret(folder)),
        keyframes_processes=settings.keyframes_processes if is_chosen else min(cores(), MAX_KEYFRAMES_PROCESSES),
    )


def children(settings: Settings, listener: socket.socket) -> list[Child]:
    """The processes of Reelmap, all with the same settings, but for secrets: each gets those that it uses.

    listener: where the API answers.
    """
    made = {
        # -P: a folder named `services` where the person happens to stand is none of ours.
        name: Child(
            name,
            (sys.executable, "-P", "-m", *arguments),
            {**_own(settings, name).to_environ(), **patient_threads(os.environ)},
            stop_timeout_s=settings.stop_grace_s + STOP_MARGIN_S,
            once=name in ONCE,
        )
        for name, arguments in {**PROCESSES, **ONCE}.items()
    }
    api = made["api"]
    made["api"] = replace(api, argv=(*api.argv, "--listener-fd", str(listener.fileno())), listener=listener)
    return list(made.values())


def _own(settings: Settings, name: str) -> Settings:
    """The settings of one process: a file of its own that says it lives, and no secret that others use."""
    path = settings.alive_file
    return replace(
        settings,
        alive_file=path.with_name(f"{path.name}-{name}") if path else None,
        cookie_secret=settings.cookie_secret if name == "api" else "",
        key="",  # the command line's
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the port, or on any free one for 0. Raises PermanentError when it cannot be used."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python adds the address, and we have said it
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE,
            f"Port {port} of {host} cannot be used ({reason}). Choose another with --port (0: any), or another address "
            "with --host.",
        ) from None
    if listener.fileno() > 2:
        return listener
    with listener:  # our standard streams are closed, and a child's own streams have these numbers
        return socket.socket(fileno=fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, 3))


def port_of(listener: socket.socket) -> int:
    """The port on which the socket listens."""
    return int(listener.getsockname()[1])


def page_url(host: str, port: int) -> str:
    """Where a browser on this machine finds the page."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def wait_until_ready(page: str, between: Callable[[], None]) -> bool:
    """Wait until the API says that it is ready, calling `between` every few seconds or more. Returns whether it did."""
    give_up_at = time.monotonic() + READY_TIMEOUT_S
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < give_up_at:
            try:
                if session.get(f"{page}/readyz", timeout=READY_ANSWER_S).ok:
                    return True
            except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
                pass
            between()
            time.sleep(0.2)
    return False
