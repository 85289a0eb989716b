"""Removes what nothing refers to: orphaned blobs, uploads never submitted, query pictures, idempotency keys."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from sqlalchemy import text

from shared.blobs import BlobStore
from shared.db import Database

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Blobs are written before their rows; a younger one may still be waiting for its row.
ORPHAN_AFTER_S = 24 * 3600

#: Where blobs live, and the statement that tells which of the names `:names` some row refers to. Pictures live and die
#: with their extraction, whose id is in their names: `pictures/<extraction>/<picture>`.
_REFERRED = {
    "pictures/": """
        SELECT n.name
        FROM unnest(CAST(:names AS text[])) AS n (name) CROSS JOIN split_part(n.name, '/', 2) AS folder
        JOIN extractions x ON x.id = CASE WHEN folder ~ '^[0-9a-f-]{36}$' THEN CAST(folder AS uuid) END""",
    "uploads/": "SELECT blob FROM uploads WHERE blob = ANY(:names)",
    "queries/": "SELECT blob FROM queries WHERE blob = ANY(:names)",
}

_UNUSED_UPLOAD = "NOT EXISTS (SELECT FROM sources s WHERE s.url = 'upload:' || u.id)"


def forget_old_rows(database: Database) -> None:
    """Remove query pictures, idempotency keys, and uploads of no job, that are older than a day."""
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM queries WHERE created_at < now() - interval '1 day'"))
        connection.execute(text("DELETE FROM idempotency_keys WHERE created_at < now() - interval '1 day'"))
        # Locked first and looked at again: a job that was submitted meanwhile keeps its uploads.
        ids = connection.execute(
            text(
                f"""SELECT u.id FROM uploads u WHERE u.created_at < now() - interval '1 day' AND {_UNUSED_UPLOAD}
                ORDER BY u.id FOR UPDATE SKIP LOCKED"""
            )
        ).scalars()
        connection.execute(
            text(f"DELETE FROM uploads u WHERE u.id = ANY(CAST(:ids AS uuid[])) AND {_UNUSED_UPLOAD}"),
            {"ids": list(ids)},
        )


def remove_orphans(database: Database, blobs: BlobStore, *, older_than_s: float = ORPHAN_AFTER_S) -> int:
    """Delete blobs that no row refers to. Returns how many."""
    removed = 0
    for prefix, statement in _REFERRED.items():
        old = (name for name, written_at in blobs.names(prefix) if written_at < time.time() - older_than_s)
        for names in _batches(old, 500):
            unreferred = _unreferred(database, statement, names)
            blobs.delete(unreferred)
            removed += len(unreferred)
    if removed:
        logger.info("removed %d blobs that nothing refers to", removed, extra={"event": "orphans_removed"})
    return removed


def _unreferred(database: Database, statement: str, names: Collection[str]) -> list[str]:
    with database.transaction() as connection:
        referred = set(connection.execute(text(statement), {"names": list(names)}).scalars())
    return [name for name in names if name not in referred]


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
