"""The exports queue: rows to a file in the work folder, the file to a blob."""

from __future__ import annotations

import importlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from services.exports import store
from services.exports.rows import Row
from services.exports.store import ExportWork, WrittenExport
from shared import catalog
from shared.blobs import BlobMissing, BlobStore
from shared.db import Database
from shared.errors import ErrorKind, PermanentError
from shared.runner import Handler, Work
from shared.settings import Settings
from shared.tasks import Claim

#: How often whoever waits is told how far it is.
PROGRESS_EVERY_S = 1.0

_NOTHING = {
    "job": "The job has no key frames, so there is nothing to export; wait until some of its videos were read.",
    "clustering": "The clustering holds no key frames any more: it was deleted, or its videos were.",
    "cluster": "The cluster is not there any more: its clustering was deleted.",
    "search": "The search finds nothing any more: its picture was sent more than a day ago, or its jobs were deleted.",
}


class ExportsHandler(Handler[ExportWork, WrittenExport]):
    """What one worker process does with exports."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self.deadline_s = settings.exports_deadline_s
        self._database = database
        self._blobs = blobs

    def load(self, connection: Connection, claim: Claim) -> ExportWork | None:
        return store.load(connection, claim)

    def save(self, connection: Connection, claim: Claim, loaded: ExportWork, result: WrittenExport) -> None:
        store.save(connection, claim, loaded, result)

    def compute(self, items: Sequence[ExportWork], work: Work) -> list[WrittenExport]:
        return [self._write(export, work) for export in items]

    def _write(self, export: ExportWork, work: Work) -> WrittenExport:
        """Rows first, in one short transaction, then pictures with none: memory holds some of either, the disk all."""
        if export.format not in catalog.formats():
            raise PermanentError(
                ErrorKind.BAD_PARAMETERS, f"This worker knows no format {export.format}; it is older than the API."
            )
        module = importlib.import_module(f"services.exports.formats.{export.format}")
        table, file = work.folder / "rows", work.folder / "export"
        count = self._database.retrying(lambda connection: _spool(connection, export, table, work.check))
        if not count:
            raise PermanentError(ErrorKind.NOTHING_TO_EXPORT, _NOTHING[export.subject["kind"]])
        most = module.MOST_KEY_FRAMES
        if most is not None and count > most:
            raise PermanentError(
                ErrorKind.TOO_LARGE,
                f"These are {count:,} key frames, and one file of this format holds at most {most:,}. Export the "
                "clusters one by one, or take another format.",
            )
        rows = self._with_pictures(table) if module.NEEDS_PICTURES else (row for row, _ in _spooled(table))
        with file.open("wb") as writer:
            for block in module.write(self._watched(rows, export, count, work)):
                writer.write(block)
        blob = f"exports/{uuid.uuid4()}{module.SUFFIX}"
        self._blobs.put(blob, file)
        return WrittenExport(blob, file.stat().st_size, count)

    def _with_pictures(self, table: Path) -> Iterator[Row]:
        pictures = self._blobs.read_all(blob for _, blob in _spooled(table))
        try:
            for (row, _), picture in zip(_spooled(table), pictures, strict=True):
                yield replace(row, picture=picture)
        except BlobMissing as error:
            raise PermanentError(
                ErrorKind.PICTURES_MISSING,
                f"The picture {error} is not in the store any more: a job was deleted meanwhile. Export again.",
            ) from None

    def _watched(self, rows: Iterator[Row], export: ExportWork, count: int, work: Work) -> Iterator[Row]:
        """The rows, looking up between them whether to go on, and saying now and then how far it is."""
        tell_at = 0.0
        for number, row in enumerate(rows):
            work.check()
            if time.monotonic() >= tell_at:
                written = number
                self._database.retrying(lambda c, written=written: store.note_progress(c, export, count, written))  # type: ignore[misc]
                tell_at = time.monotonic() + PROGRESS_EVERY_S
            yield row


def _spool(connection: Connection, export: ExportWork, table: Path, check: Callable[[], None]) -> int:
    """Write the rows of the export into a file, one a line. Returns how many."""
    count = 0
    with table.open("w") as writer:
        for row in store.key_frames(connection, export):
            if count % store.FETCHED_AT_ONCE == 0:
                check()
            writer.write(json.dumps(row) + "\n")
            count += 1
    return count


def _spooled(table: Path) -> Iterator[tuple[Row, str]]:
    """The rows that `_spool` wrote, each with the name of its picture's blob."""
    with table.open() as lines:
        for line in lines:
            values: dict[str, Any] = json.loads(line)
            blob = values.pop("blob")
            yield Row(**values), blob
