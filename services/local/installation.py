"""A data folder of the embedded form, whether its Reelmap runs right now or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.local.guard import Guard
from services.local.lock import FolderLock, InUse
from services.local.postgres import EmbeddedPostgres, running_url
from shared.errors import ErrorKind, PermanentError
from shared.ownership import MARK
from shared.settings import Settings

#: Where the parts lie in a data folder.
POSTGRES, REDIS, BLOBS, WORK, LOGS = "postgres", "redis", "blobs", "work", "logs"

#: Where a restore makes them, which moves them up at its end, Postgres last.
RESTORING = ".restoring"


@dataclass(frozen=True)
class OpenInstallation:
    """A data folder whose database answers. is_running: its own Reelmap runs; else the database is ours."""

    folder: Path
    database_url: str
    is_running: bool


@contextmanager
def open_installation(folder: Path, *, make: bool = False) -> Iterator[OpenInstallation]:
    """The database of a data folder: of the Reelmap that runs on it, or else started for the length of the block.

    make: a folder that holds no Reelmap gets an empty database. Raises PermanentError when there is none otherwise, or
    when the Reelmap is just starting or ending.
    """
    folder = folder.absolute()
    refuse_half_restored(folder)
    if make:
        make_folder(folder)
    elif not (folder / POSTGRES / "data" / "PG_VERSION").is_file():
        raise PermanentError(ErrorKind.STORE_UNAVAILABLE, f"There is no Reelmap in {folder}; name its --folder.")
    try:
        lock = FolderLock(folder, "another Reelmap")
    except InUse:
        url = running_url(folder / POSTGRES)
        if url is None:
            raise PermanentError(
                ErrorKind.STORE_UNAVAILABLE, f"The Reelmap in {folder} is just starting or ending; try again."
            ) from None
        yield OpenInstallation(folder, url, is_running=True)
        return
    with lock, Guard() as guard:
        server = EmbeddedPostgres(folder / POSTGRES, guard)
        url = server.start()
        try:
            yield OpenInstallation(folder, url, is_running=False)
        finally:
            server.stop()


def is_half_restored(folder: Path) -> bool:
    """Whether a restore into the folder is under way, or was interrupted."""
    return (folder / RESTORING).is_dir() and not (folder / POSTGRES).exists()


def refuse_half_restored(folder: Path) -> None:
    """Raise PermanentError for what a restore has not finished: it would be taken for an empty folder."""
    if not is_half_restored(folder):
        return
    FolderLock(folder / RESTORING, "a restore").close()  # raises where one is under way
    raise PermanentError(
        ErrorKind.STORE_UNAVAILABLE,
        f"A restore into {folder} was interrupted, so there is no whole Reelmap in it. Run `reelmap restore` with the "
        "same folder again, or delete the folder.",
    )


def make_folder(path: Path) -> None:
    """Make a folder for us alone, where it is not there. Raises PermanentError naming what is in its place."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next((each for each in (path, *path.parents) if each.exists() and not each.is_dir()), path)
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE, f"{file} is a file, and a folder is needed in its place; move it away."
        ) from None
    except OSError as error:
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE, f"The folder {path} cannot be made ({error.strerror})."
        ) from None


def blobs_folder_of(settings: Settings, folder: Path) -> Path | None:
    """Where in the data folder pictures are; None where they are in a bucket.

    Raises PermanentError for a bucket when there are pictures in the folder: then it is somebody else's.
    """
    blobs_folder = folder / BLOBS
    if not settings.blobs_bucket:
        return blobs_folder
    if blobs_folder.is_dir() and any(path.name != MARK for path in blobs_folder.iterdir()):
        raise PermanentError(
            ErrorKind.BAD_PARAMETERS,
            f"REELMAP_BLOBS_BUCKET is {settings.blobs_bucket}, and there are pictures in {blobs_folder}. Move them "
            "into the bucket (docs/storage.md says how), or unset it.",
        )
    return None
