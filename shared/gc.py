"""Removes what nothing refers to: old rows that nobody comes back for, orphaned blobs, uploads that never ended.

The dispatcher does it every hour and `reelmap gc` when a person says so, both while everything runs. Videos and
extractions are not among it: their rows are written together with the source that names them, and go with the last one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sqlalchemy import text

from shared import ownership
from shared.blobs import BlobEntry, BlobStore
from shared.db import Database
from shared.errors import ErrorKind, TransientError, one_line
from shared.settings import Settings
from shared.work_folders import abandoned

#: Rows are kept for a day, as the API promises for uploads and repeated requests; blobs are, unless somebody says less.
KEPT_S = 24 * 3600.0
#: Added to the longest time that a worker may take: the last minute before it is killed, a save that waits for
#: Postgres, clocks that differ, and a large file on its way into a bucket, which dates it from when that began.
MARGIN_S = 1800.0
#: Names looked up, and then deleted, at a time: the fewer, the sooner a blob goes after it was looked up.
BATCH = 1000
#: Where `reelmap doctor` puts what it writes to see whether it can.
PROBES = "probes/"

_OLD = "created_at < now() - make_interval(secs => :older_than_s)"
_UNUSED_UPLOAD = "NOT EXISTS (SELECT FROM sources s WHERE s.url = 'upload:' || u.id)"

#: Kinds of rows, their tables, and which of them go.
_ROWS = (
    ("query pictures", "queries", _OLD),
    ("idempotency keys", "idempotency_keys", _OLD),
    ("exports past their time", "exports", "expires_at < now()"),
    ("uploads of no job", "uploads", f"{_OLD} AND {_UNUSED_UPLOAD}"),
)

#: Tables whose rows have tasks of their own -> by which column of `tasks`.
_SUBJECTS = {"queries": "query_id", "exports": "export_id"}


@dataclass
class Garbage:
    """Things of one kind that nothing uses.

    size_bytes: 0 for rows. oldest_at: seconds since the epoch; None when there are none.
    """

    kind: str
    count: int = 0
    size_bytes: int = 0
    oldest_at: float | None = None

    def add(self, at: float, size_bytes: int = 0) -> None:
        """Count one more."""
        self.count += 1
        self.size_bytes += size_bytes
        self.oldest_at = at if self.oldest_at is None else min(at, self.oldest_at)


@dataclass(frozen=True)
class _BlobKind:
    """Where blobs of one kind live, and how to tell which of the names `:names` some row refers to.

    goes: a condition on rows that we remove ourselves, whose blobs a dry run therefore counts.
    """

    title: str
    prefix: str
    referred: str
    goes: str = "false"


_BLOBS = (
    # Pictures live and die with their extraction, whose id is in their names: `pictures/<extraction>/<picture>`.
    _BlobKind(
        "pictures in the store",
        "pictures/",
        """SELECT n.name
        FROM unnest(CAST(:names AS text[])) AS n (name) CROSS JOIN split_part(n.name, '/', 2) AS folder
        JOIN extractions u ON u.id = CASE WHEN folder ~ '^[0-9a-f-]{36}$' THEN CAST(folder AS uuid) END
        WHERE true""",
    ),
    _BlobKind(
        "uploads in the store",
        "uploads/",
        "SELECT u.blob FROM uploads u WHERE u.blob = ANY(:names)",
        goes=f"u.{_OLD} AND {_UNUSED_UPLOAD}",
    ),
    _BlobKind(
        "query pictures in the store",
        "queries/",
        "SELECT u.blob FROM queries u WHERE u.blob = ANY(:names)",
        goes=f"u.{_OLD}",
    ),
    _BlobKind(
        "exports in the store",
        "exports/",
        "SELECT u.blob FROM exports u WHERE u.blob = ANY(:names)",
        goes="u.expires_at < now()",
    ),
    _BlobKind("probes in the store", PROBES, "SELECT u.blob FROM uploads u WHERE false"),
)


def least_age_s(settings: Settings) -> float:
    """How old a blob must be for nobody to be about to write the row that names it, while Reelmap runs."""
    return max(settings.keyframes_deadline_s, settings.exports_deadline_s) + MARGIN_S


def collect(
    database: Database,
    blobs: BlobStore,
    work_folders: Iterable[Path] = (),
    *,
    older_than_s: float,
    delete: bool,
    adopt: bool = False,
) -> list[Garbage]:
    """Remove what nothing uses, or only look for it. Returns what that is, kind by kind.

    older_than_s: of blobs; see `least_age_s`. Rows are kept for a day at least. work_folders: where processes of this
    machine work; what killed ones left there goes whatever its age, because a lock says whether somebody works in it.
    adopt: take the store for ours, whatever it bears.

    Raises NotOurs before anything is removed. Raises TransientError at the end for what the store did not do;
    everything else is done by then.
    """
    if not adopt:
        require_ours(database, blobs)
    if delete and (adopt or not ownership.is_marked(database, blobs)):
        ownership.mark(database, blobs)
    failures: list[Exception] = []
    rows_s = max(older_than_s, KEPT_S)
    found = [_old_rows(database, *kind, older_than_s=rows_s, delete=delete) for kind in _ROWS]
    for kind in _BLOBS:
        garbage = Garbage(kind.title)
        found.append(garbage)
        with _noted(failures):
            for orphans in _orphans(database, blobs, kind, older_than_s, None if delete else rows_s):
                with _noted(failures):
                    if delete:
                        blobs.delete(entry.name for entry in orphans)
                    for entry in orphans:
                        garbage.add(entry.written_at, entry.size_bytes)
    found.append(_unfinished(blobs, older_than_s, failures, delete=delete))
    found.append(_work_folders(work_folders, delete=delete))
    if failures:
        others = f"; {len(failures) - 1} more failed" if failures[1:] else ""
        raise TransientError(ErrorKind.STORE_UNAVAILABLE, f"{one_line(failures[0])}{others}") from failures[0]
    return found


def require_ours(database: Database, blobs: BlobStore) -> None:
    """Raise NotOurs unless the store bears our mark, or bears none and rows name at least half of what is in it.

    One blob that rows name would not do: a database that lost its rows names those that came since.
    """
    if ownership.is_marked(database, blobs):
        return
    count = named = 0
    for kind in _BLOBS:
        names = (entry.name for entry in blobs.entries(kind.prefix) if kind.prefix != PROBES)
        while batch := list(islice(names, BATCH)):
            count += len(batch)
            named += len(_referred(database, kind, batch, None))
    if 2 * named < count:
        raise ownership.NotOurs(
            f"Rows of this database name only {named:,} of {count:,} pictures and uploads in the store."
        )


@contextmanager
def _noted(failures: list[Exception]) -> Iterator[None]:
    """Go on after what the store does not do: one object that cannot be removed must not keep all others for ever."""
    try:
        yield
    except (TransientError, OSError) as error:
        failures.append(error)


def _old_rows(database: Database, kind: str, table: str, goes: str, *, older_than_s: float, delete: bool) -> Garbage:
    values: dict[str, object] = {"older_than_s": older_than_s}
    found = f"SELECT u.created_at FROM {table} u WHERE u.{goes}"
    with database.transaction() as connection:
        if delete and table == "uploads":
            # Locked first and looked at again: a job that was submitted meanwhile keeps its uploads.
            lock = f"SELECT u.id FROM uploads u WHERE u.{goes} ORDER BY u.id FOR UPDATE SKIP LOCKED"
            values["ids"] = list(connection.execute(text(lock), values).scalars())
            goes += " AND u.id = ANY(CAST(:ids AS uuid[]))"
        elif delete and (subject := _SUBJECTS.get(table)):
            # Their tasks go with them, and tasks come first in the order of locks.
            lock = f"SELECT t.id FROM tasks t JOIN {table} u ON u.id = t.{subject} WHERE u.{goes} ORDER BY t.id"
            connection.execute(text(f"{lock} FOR UPDATE OF t"), values)
        if delete:
            found = f"DELETE FROM {table} u WHERE u.{goes} RETURNING u.created_at"
        count, oldest_at = connection.execute(
            text(f"WITH found AS ({found}) SELECT count(*), extract(epoch FROM min(created_at)) FROM found"), values
        ).one()
    return Garbage(kind, count, 0, None if oldest_at is None else float(oldest_at))


def _orphans(
    database: Database, blobs: BlobStore, kind: _BlobKind, older_than_s: float, rows_go_after_s: float | None
) -> Iterator[list[BlobEntry]]:
    """The old blobs of a place that no row names, by batches, each just looked up.

    rows_go_after_s: take rows of that age for gone that we would remove; None where they are gone already.
    """
    written_before = time.time() - older_than_s
    old = (entry for entry in blobs.entries(kind.prefix) if entry.written_at < written_before)
    while batch := list(islice(old, BATCH)):
        referred = _referred(database, kind, [entry.name for entry in batch], rows_go_after_s)
        yield [entry for entry in batch if entry.name not in referred]


def is_referred(database: Database, name: str) -> bool:
    """Whether some row refers to the blob."""
    return any(_referred(database, kind, [name], None) for kind in _BLOBS if name.startswith(kind.prefix))


def _referred(database: Database, kind: _BlobKind, names: list[str], rows_go_after_s: float | None) -> set[str]:
    statement = kind.referred
    values: dict[str, object] = {"names": names}
    if rows_go_after_s is not None:
        statement += f" AND NOT ({kind.goes})"
        values["older_than_s"] = rows_go_after_s
    with database.transaction() as connection:
        return set(connection.execute(text(statement), values).scalars())


def _unfinished(blobs: BlobStore, older_than_s: float, failures: list[Exception], *, delete: bool) -> Garbage:
    garbage = Garbage("unfinished uploads to the store")
    with _noted(failures):
        for put in blobs.unfinished():
            if put.begun_at >= time.time() - older_than_s:
                continue
            with _noted(failures):
                size_bytes = put.received_bytes()
                if delete:
                    put.abandon()
                garbage.add(put.begun_at, size_bytes)
    return garbage


def _work_folders(parents: Iterable[Path], *, delete: bool) -> Garbage:
    garbage = Garbage("work folders of killed processes")
    for parent in parents:
        for folder in abandoned(parent):
            try:
                left_at, size_bytes = folder.stat().st_mtime, sum(path.lstat().st_size for path in folder.rglob("*"))
            except FileNotFoundError:
                continue  # a worker that started meanwhile removes it
            garbage.add(left_at, size_bytes)
            if delete:
                shutil.rmtree(folder, ignore_errors=True)
    return garbage
