"""Exports: how far each is, and where its file is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from services.api import cursors, paths
from services.api.cursors import Page, cut
from services.api.problems import Conflict, NotFound
from services.api.queries.sources import failure
from services.api.schemas.answers import Export
from shared import catalog
from shared.tasks import TaskState

# Past its time an export is gone, also where nobody has cleaned up yet.
_EXPORTS = """
    SELECT x.id, x.job_id, x.subject, x.format, x.created_at, x.expires_at, x.key_frame_count, x.written_count, x.blob,
           x.size_bytes, t.state, t.error_kind, t.error, t.finished_at
    FROM exports x JOIN tasks t ON t.export_id = x.id
    WHERE x.project_id = :project AND x.expires_at > now()"""


@dataclass(frozen=True)
class ExportFile:
    """A file that may be fetched. name: what it is called where it is saved."""

    blob: str
    name: str
    media_type: str


def get_export(connection: Connection, project_id: str, export_id: str) -> Export:
    """Raises `NotFound`."""
    return _export(_row(connection, project_id, export_id))


def list_exports(connection: Connection, project_id: str, *, limit: int, cursor: str | None = None) -> Page[Export]:
    """The project's exports, newest first. Raises `Invalid` for a wrong cursor."""
    values: dict[str, Any] = {"project": project_id, "limit": limit + 1}
    behind = ""
    if cursor:
        behind = "AND (x.created_at, x.id) < (:created_at, CAST(:id AS uuid))"
        values["created_at"], values["id"] = cursors.decode(cursor, cursors.time, cursors.identifier)
    rows = connection.execute(
        text(f"{_EXPORTS} {behind} ORDER BY x.created_at DESC, x.id DESC LIMIT :limit"), values
    ).all()
    kept, next_cursor = cut(rows, limit, lambda row: (row.created_at, row.id))
    return Page([_export(row) for row in kept], next_cursor)


def get_file(connection: Connection, project_id: str, export_id: str) -> ExportFile:
    """Raises `NotFound`, or `Conflict` while there is no file."""
    row = _row(connection, project_id, export_id)
    if row.blob is None:
        if row.error is not None and row.state == TaskState.FAILED:
            raise Conflict(f"This export has no file: {row.error}")
        raise Conflict("This export is not written yet; ask for its state.")
    return ExportFile(row.blob, file_name(row.id, row.subject, row.format), catalog.formats()[row.format].media_type)


def file_name(export_id: str, subject: dict[str, Any], format_: str) -> str:
    """The name of the file: safe on every system, and no other export has the same."""
    return f"reelmap-{subject['kind']}-{export_id}{catalog.formats()[format_].suffix}"


def _row(connection: Connection, project_id: str, export_id: str) -> Any:
    row = connection.execute(text(f"{_EXPORTS} AND x.id = :id"), {"id": export_id, "project": project_id}).one_or_none()
    if row is None:
        raise NotFound(f"There is no export {export_id}; it was deleted, or its time is over.", "export_id")
    return row


def _export(row: Any) -> Export:
    links = {"self": paths.export(row.id), "page": paths.export_page(row.id)}
    if row.job_id:
        links["job"] = paths.job(row.job_id)
    if row.blob:
        links["file"] = paths.export_file(row.id)
    return Export(
        id=row.id,
        subject=row.subject,
        format=row.format,
        state=row.state,
        error=failure(row),
        created_at=row.created_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
        key_frames=row.key_frame_count,
        written=row.written_count,
        size_bytes=row.size_bytes,
        file_name=file_name(row.id, row.subject, row.format),
        links=links,
    )
