"""Whose blobs these are: a small blob says which database's rows name them.

gc removes what no row names. Beside an empty database, or that of another Reelmap, this would be everything.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sqlalchemy import text

from shared.blobs import BlobMissing, BlobStore
from shared.db import Database
from shared.errors import ErrorKind, PermanentError

#: In it is the database's id. It lies in none of the places of other blobs, so it is never an orphan.
MARK = "installation"

_WHAT_TO_DO = (
    "Nothing was removed. Restore the database that belongs to it first, or name another bucket, prefix or folder "
    "(docs/storage.md). If all that no row of this database names may go: `reelmap gc --adopt`."
)


class NotOurs(PermanentError):
    """The blobs may belong to another database."""

    def __init__(self, why: str) -> None:
        super().__init__(ErrorKind.STORE_UNAVAILABLE, f"{why} {_WHAT_TO_DO}")

    def __reduce__(self) -> tuple[type[PermanentError], tuple[ErrorKind, str]]:
        return (PermanentError, (self.kind, self.message))


def is_marked(database: Database, blobs: BlobStore) -> bool:
    """Whether the store bears our mark; False when it bears none. Raises NotOurs for that of another database."""
    try:
        theirs = blobs.read(MARK).decode(errors="replace").strip()
    except BlobMissing:
        return False
    ours = _id(database)
    if theirs != ours:
        raise NotOurs(f"The store of pictures belongs to another database, {theirs[:36]}; this one is {ours}.")
    return True


def mark(database: Database, blobs: BlobStore) -> None:
    """Mark the store as ours, whatever it bears now."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(f"{_id(database)}\n".encode())
        file.flush()
        blobs.put(MARK, Path(file.name))


def _id(database: Database) -> str:
    with database.transaction() as connection:
        return str(connection.execute(text("SELECT id FROM installation")).scalar_one())
