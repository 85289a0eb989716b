"""`reelmap gc`: removes what nothing uses, of servers that the settings name or of a data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from services.local.installation import WORK, blobs_folder_of, open_installation
from shared import gc
from shared.blob_stores import open_blobs
from shared.blobs import BlobStore
from shared.db import Database, is_unavailable
from shared.errors import ErrorKind, PermanentError, one_line
from shared.pipeline import Queue
from shared.schema import is_usable, schema_revision
from shared.settings import Settings, load_settings


@dataclass(frozen=True)
class _Stores:
    """What is looked through. may_be_written: whether somebody may be writing blobs to it now."""

    settings: Settings
    database: Database
    blobs: BlobStore
    may_be_written: bool


def collect(folder: Path | None, *, older_than_s: float, delete: bool, adopt: bool = False) -> list[gc.Garbage]:
    """Remove what nothing uses and is older than that, or only look for it. Returns what that is, kind by kind.

    folder: of `reelmap up`, running or not; None takes the servers of the settings. adopt: take a store for ours that
    bears no mark or another's, which is refused otherwise.

    Raises PermanentError for an age at which a blob may still wait for the row that names it, unless it is in a folder
    whose Reelmap does not run.
    """
    with _stores(folder) as stores:
        least_s = gc.least_age_s(stores.settings)
        if stores.may_be_written and older_than_s < least_s:
            raise PermanentError(
                ErrorKind.BAD_PARAMETERS,
                f"What is younger than {least_s / 3600:.3g} hours may belong to work that is being done "
                "(REELMAP_KEYFRAMES_DEADLINE_S or REELMAP_EXPORTS_DEADLINE_S, and half an hour). Name a higher "
                "--older-than.",
            )
        try:
            _require_schema(stores.database)
            return gc.collect(
                stores.database,
                stores.blobs,
                _work_folders(stores.settings),
                older_than_s=older_than_s,
                delete=delete,
                adopt=adopt,
            )
        except DBAPIError as error:
            if not is_unavailable(error):
                raise
            raise PermanentError(
                ErrorKind.STORE_UNAVAILABLE, f"The database does not answer: {one_line(error)}"
            ) from None


@contextmanager
def _stores(folder: Path | None) -> Iterator[_Stores]:
    settings = load_settings()
    if folder is None:
        settings.require("database_url")
        with _database(settings) as database:
            yield _Stores(settings, database, open_blobs(settings), may_be_written=True)
        return
    with open_installation(folder) as opened:
        settings = replace(
            settings,
            database_url=opened.database_url,
            blobs_folder=blobs_folder_of(settings, opened.folder),
            work_folder=opened.folder / WORK,
        )
        with _database(settings) as database:
            # That nothing runs here says nothing of who else writes into a bucket.
            is_shared = settings.blobs_place is not None
            yield _Stores(settings, database, open_blobs(settings), may_be_written=opened.is_running or is_shared)


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url, application_name="reelmap-gc")
    try:
        yield database
    finally:
        database.dispose()


def _require_schema(database: Database) -> None:
    with database.transaction() as connection:
        if not is_usable(schema_revision(connection)):
            raise PermanentError(
                ErrorKind.STORE_UNAVAILABLE,
                "The database has another schema than this version needs. Migrate it, see docs/operations.md.",
            )


def _work_folders(settings: Settings) -> list[Path]:
    """Where processes of this machine make their folders; not the system's temporary folder, which others use too."""
    base = settings.scratch_folder
    return [base, *(base / queue.value for queue in Queue)]
