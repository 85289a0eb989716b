"""Key frames: what they show of which video, and where that video came from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, text

from services.api import cursors, paths
from services.api.cursors import Page, cut
from services.api.problems import NotFound
from services.api.queries.jobs import require_job
from services.api.schemas.answers import KeyFrame, KeyFrameAt, Shot, SourceOfKeyFrame
from services.api.source_links import link_at

#: A video that a hundred jobs share does not list all of them with each of its key frames.
MAX_SOURCES = 20


def get_key_frame(connection: Connection, project_id: str, key_frame_id: str) -> KeyFrame:
    """Raises `NotFound`."""
    found = connection.execute(
        text(
            """SELECT FROM key_frames k JOIN extractions x ON x.id = k.extraction_id JOIN videos v ON v.id = x.video_id
            WHERE k.id = :id AND v.project_id = :project"""
        ),
        {"id": key_frame_id, "project": project_id},
    ).first()
    if found is None:
        raise key_frame_not_found(key_frame_id)
    return key_frames_by_id(connection, project_id, [key_frame_id])[key_frame_id]


def key_frame_not_found(key_frame_id: str) -> NotFound:
    """What every address below an unknown key frame answers."""
    return NotFound(f"There is no key frame {key_frame_id}.", "key_frame_id")


def get_picture_blob(connection: Connection, project_id: str, key_frame_id: str, size: Literal["full", "small"]) -> str:
    """The name of the blob with the key frame's JPEG. Raises `NotFound`."""
    blob: str | None = connection.execute(
        text(
            f"""SELECT k.{"small_blob" if size == "small" else "blob"} FROM key_frames k
            JOIN extractions x ON x.id = k.extraction_id JOIN videos v ON v.id = x.video_id
            WHERE k.id = :id AND v.project_id = :project"""
        ),
        {"id": key_frame_id, "project": project_id},
    ).scalar()
    if blob is None:
        raise key_frame_not_found(key_frame_id)
    return blob


def key_frames_by_id(
    connection: Connection, project_id: str, ids: Collection[str], job_ids: Collection[str] | None = None
) -> dict[str, KeyFrame]:
    """Those of the key frames that exist, by id. Sources are those of `job_ids`, or of every job of the project."""
    rows = connection.execute(
        text(
            """
            SELECT k.id, k.extraction_id, x.video_id, k.frame_index, k.time_s, k.shot_index,
                   k.width_px, k.height_px, k.repeats, x.shots -> k.shot_index AS shot,
                   coalesce((x.facts ->> 'start_s')::float8, 0) AS start_s
            FROM key_frames k JOIN extractions x ON x.id = k.extraction_id
            WHERE k.id = ANY(CAST(:ids AS uuid[]))"""
        ),
        {"ids": list(ids)},
    ).all()
    sources = sources_of(connection, project_id, {row.extraction_id for row in rows}, job_ids)
    return {row.id: _key_frame(row, sources[row.extraction_id]) for row in rows}


def with_distances(
    connection: Connection,
    project_id: str,
    rows: Sequence[Any],
    job_ids: Collection[str] | None = None,
) -> list[KeyFrameAt]:
    """The key frames of rows that have `key_frame_id` and `distance`, in the order of the rows."""
    found = key_frames_by_id(connection, project_id, {row.key_frame_id for row in rows}, job_ids)
    return [
        KeyFrameAt(**dict(found[row.key_frame_id]), distance=row.distance) for row in rows if row.key_frame_id in found
    ]


def list_of_job(
    connection: Connection, project_id: str, job_id: str, *, limit: int, cursor: str | None = None
) -> Page[KeyFrame]:
    """The job's key frames, video by video as it submitted them, each by time; a video that it names twice, once.

    Raises `NotFound`, or `Invalid` for a wrong cursor.
    """
    require_job(connection, project_id, job_id)
    values: dict[str, Any] = {"job": job_id, "limit": limit + 1, "source": -1, "position": -1}
    if cursor:
        values["source"], values["position"] = cursors.decode(cursor, cursors.whole, cursors.whole)
    rows = connection.execute(
        text(
            """
            WITH shown AS (
                SELECT extraction_id, min(position) AS source FROM sources
                WHERE job_id = :job AND extraction_id IS NOT NULL GROUP BY extraction_id
            )
            SELECT k.id, shown.source, k.position
            FROM (SELECT * FROM shown WHERE source >= :source ORDER BY source) shown
            JOIN key_frames k ON k.extraction_id = shown.extraction_id
            WHERE (shown.source, k.position) > (:source, :position)
            ORDER BY shown.source, k.position LIMIT :limit"""
        ),
        values,
    ).all()
    kept, next_cursor = cut(rows, limit, lambda row: (row.source, row.position))
    return Page(_in_order(connection, project_id, [row.id for row in kept], [job_id]), next_cursor)


def list_of_extraction(
    connection: Connection,
    project_id: str,
    extraction_id: str,
    job_ids: Collection[str] | None,
    *,
    limit: int,
    cursor: str | None = None,
) -> Page[KeyFrame]:
    """Its key frames by time, with sources of these jobs, or of all. Raises `Invalid` for a wrong cursor."""
    values: dict[str, Any] = {"extraction": extraction_id, "limit": limit + 1, "position": -1}
    if cursor:
        (values["position"],) = cursors.decode(cursor, cursors.whole)
    rows = connection.execute(
        text(
            """SELECT id, position FROM key_frames WHERE extraction_id = :extraction AND position > :position
            ORDER BY position LIMIT :limit"""
        ),
        values,
    ).all()
    kept, next_cursor = cut(rows, limit, lambda row: (row.position,))
    return Page(_in_order(connection, project_id, [row.id for row in kept], job_ids), next_cursor)


def _in_order(
    connection: Connection, project_id: str, ids: Sequence[str], job_ids: Collection[str] | None
) -> list[KeyFrame]:
    found = key_frames_by_id(connection, project_id, ids, job_ids)
    return [found[id_] for id_ in ids if id_ in found]


def _key_frame(row: Any, sources: Sequence[Any]) -> KeyFrame:
    _, _, start_s, end_s = row.shot or (0, 0, row.time_s, row.time_s)
    return KeyFrame(
        id=row.id,
        video_id=row.video_id,
        frame_index=row.frame_index,
        time_s=row.time_s,
        shot=Shot(index=row.shot_index, start_s=start_s, end_s=end_s),
        width_px=row.width_px,
        height_px=row.height_px,
        repeats=row.repeats,
        image=paths.key_frame_image(row.id),
        small_image=paths.key_frame_small_image(row.id),
        # A player counts from the file's first stream, which may begin before the video does.
        sources=[source_at(source, row.time_s + row.start_s) for source in sources],
    )


def source_at(row: Any, time_s: float) -> SourceOfKeyFrame:
    """A row of `sources_of`, with the link to that second."""
    return SourceOfKeyFrame(job_id=row.job_id, url=row.url, title=row.title, link=link_at(row.url, time_s))


def sources_of(
    connection: Connection, project_id: str, extraction_ids: Collection[str], job_ids: Collection[str] | None
) -> dict[str, list[Any]]:
    """By extraction, at most `MAX_SOURCES` rows of sources of these jobs, or of all; those of the newest job first."""
    rows = connection.execute(
        text(
            f"""
            SELECT * FROM (
                SELECT s.extraction_id, s.job_id, s.url, s.title,
                       row_number() OVER (PARTITION BY s.extraction_id ORDER BY j.created_at DESC, s.position) AS number
                FROM sources s JOIN jobs j ON j.id = s.job_id
                WHERE s.extraction_id = ANY(CAST(:extractions AS uuid[])) AND j.project_id = :project
                {"" if job_ids is None else "AND s.job_id = ANY(CAST(:jobs AS uuid[]))"}
            ) numbered WHERE number <= {MAX_SOURCES} ORDER BY number"""
        ),
        {"extractions": list(extraction_ids), "project": project_id, "jobs": list(job_ids or ())},
    )
    sources: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        sources[row.extraction_id].append(row)
    return sources
