"""The database of a data folder, for a command that needs only that: the running one, or one started for the moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from services.local.guard import Guard
from services.local.lock import FolderLock
from services.local.postgres import DATABASE, USER, EmbeddedPostgres
from shared.db import migrate
from shared.errors import ErrorKind, PermanentError


@contextmanager
def database_of(folder: Path, *, make: bool) -> Iterator[str]:
    """The URL of the database in `folder`, as long as the `with`; with the newest schema unless a Reelmap runs there.

    make: a folder without a database gets one. Raises PermanentError when it has none or cannot be reached.
    """
    folder = folder.absolute()
    if make:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not (folder / "postgres").is_dir():
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE, f"There is no Reelmap in {folder}; name its folder with --folder."
        )
    try:
        lock = FolderLock(folder, "another Reelmap")
    except PermanentError:
        yield _running(folder)
        return
    with lock, Guard() as guard:
        postgres = EmbeddedPostgres(folder / "postgres", guard)
        url = postgres.start()
        try:
            migrate(url)
            yield url
        finally:
            postgres.stop()


def _running(folder: Path) -> str:
    link = folder / "postgres" / "run"
    if not link.is_symlink():
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE, f"The Reelmap in {folder} is just starting; try again in a moment."
        )
    return f"postgresql+psycopg2://{USER}@/{DATABASE}?host={quote(str(link.readlink()))}"
