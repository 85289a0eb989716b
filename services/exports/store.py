"""Moves exports between tables and plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from shared.tasks import Claim

#: Rows that the database hands over at a time.
FETCHED_AT_ONCE = 1000


@dataclass(frozen=True)
class ExportWork:
    """One export to write. subject: `{"kind": …, what names it}`, see `shared/tables.py`."""

    export_id: str
    project_id: str
    job_id: str | None
    format: str
    subject: Mapping[str, Any]


@dataclass(frozen=True)
class WrittenExport:
    """An export whose file is in the blob store."""

    blob: str
    size_bytes: int
    key_frame_count: int


def load(connection: Connection, claim: Claim) -> ExportWork | None:
    """The export of a task; None when it was deleted."""
    row = connection.execute(
        text("SELECT id AS export_id, project_id, job_id, format, subject FROM exports WHERE id = :export"),
        {"export": claim.export_id},
    ).one_or_none()
    return ExportWork(**row._mapping) if row else None


def key_frames(connection: Connection, work: ExportWork) -> Iterator[Mapping[str, Any]]:
    """What is exported, in its order, by a cursor of the server, so that memory holds `FETCHED_AT_ONCE` of them.

    Each has what `Row` has but the picture, and `blob`, where that is.
    """
    shown, values = _SHOWN[work.subject["kind"]], dict(work.subject)
    jobs = values.get("jobs")
    # The first source that showed the video: of the job, or of a search's jobs, the newest job first.
    where = "s.job_id = :job" if work.job_id else "j.project_id = :project"
    if jobs:
        where += " AND s.job_id = ANY(CAST(:jobs AS uuid[]))"
    rows = connection.execution_options(stream_results=True, yield_per=FETCHED_AT_ONCE).execute(
        text(
            f"""
            WITH shown AS ({shown})
            SELECT k.id AS key_frame_id, x.video_id, source.title, source.url AS source_url, k.time_s, k.frame_index,
                   k.width_px, k.height_px, shown.cluster, shown.distance, k.blob
            FROM shown
            JOIN key_frames k ON k.id = shown.key_frame_id
            JOIN extractions x ON x.id = k.extraction_id
            LEFT JOIN LATERAL (
                SELECT s.title, s.url, s.position FROM sources s JOIN jobs j ON j.id = s.job_id
                WHERE s.extraction_id = x.id AND {where}
                ORDER BY j.created_at DESC, s.position LIMIT 1) source ON true
            ORDER BY shown.rank, shown.position, source.position, k.frame_index, k.id"""
        ),
        {**values, "job": work.job_id, "project": work.project_id, "jobs": jobs},
    )
    for row in rows:
        yield dict(row._mapping)


#: By label, the nearest to its centroid first. Noise is last, and has no centroid: video by video.
_ASSIGNED = """
    SELECT a.key_frame_id, a.label AS cluster, CAST(a.distance AS float8) AS distance, 0 AS position,
           CASE WHEN a.label >= 0 THEN row_number() OVER (ORDER BY a.label, a.distance, a.key_frame_id) END AS rank
    FROM assignments a WHERE a.clustering_id = CAST(:clustering_id AS uuid)"""

#: Key frames of each kind of subject: (key_frame_id, cluster, distance), in the order of `rank`, then `position`.
_SHOWN = {
    "job": """
        SELECT k.id AS key_frame_id, CAST(NULL AS integer) AS cluster, CAST(NULL AS float8) AS distance,
               0 AS rank, seen.position
        FROM (SELECT extraction_id, min(position) AS position FROM sources
              WHERE job_id = :job AND extraction_id IS NOT NULL GROUP BY extraction_id) seen
        JOIN key_frames k ON k.extraction_id = seen.extraction_id""",
    "clustering": _ASSIGNED,
    "cluster": f"{_ASSIGNED} AND a.label = :label",
    "search": """
        SELECT key_frame_id, CAST(NULL AS integer) AS cluster, distance,
               row_number() OVER (ORDER BY distance, key_frame_id) AS rank, 0 AS position
        FROM (
            SELECT k.id AS key_frame_id, e.vector <=> example.vector AS distance
            FROM (
                SELECT vector FROM embeddings
                WHERE key_frame_id = CAST(:key_frame_id AS uuid) AND model = :model
                UNION ALL
                SELECT vector FROM queries WHERE id = CAST(:query_id AS uuid)
            ) example,
            (SELECT DISTINCT s.extraction_id FROM sources s JOIN jobs j ON j.id = s.job_id
             WHERE j.project_id = :project AND s.extraction_id IS NOT NULL
             AND (CAST(:jobs AS uuid[]) IS NULL OR j.id = ANY(CAST(:jobs AS uuid[])))) seen
            JOIN key_frames k ON k.extraction_id = seen.extraction_id
            JOIN embeddings e ON e.key_frame_id = k.id AND e.model = :model
            WHERE k.id IS DISTINCT FROM CAST(:key_frame_id AS uuid)
        ) measured
        -- A vector of zeros has no direction, and its distance is no number.
        WHERE distance <> 'NaN' ORDER BY distance, key_frame_id LIMIT :limit""",
}


def note_progress(connection: Connection, work: ExportWork, key_frame_count: int, written_count: int) -> None:
    """Write down how far it is, for whoever waits."""
    connection.execute(
        text("UPDATE exports SET key_frame_count = :count, written_count = :written WHERE id = :export"),
        {"count": key_frame_count, "written": written_count, "export": work.export_id},
    )


def save(connection: Connection, claim: Claim, work: ExportWork, written: WrittenExport) -> None:
    """Write down where the file is."""
    connection.execute(
        text(
            """UPDATE exports SET blob = :blob, size_bytes = :size_bytes, key_frame_count = :count,
            written_count = :count WHERE id = :export"""
        ),
        {
            "blob": written.blob,
            "size_bytes": written.size_bytes,
            "count": written.key_frame_count,
            "export": work.export_id,
        },
    )
