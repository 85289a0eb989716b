"""Key frames: what they show of which video, and where that video came from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, text

from services.api import paths
from services.api.problems import NotFound
from services.api.schemas import KeyFrame, KeyFrameAt, Shot, SourceOfKeyFrame
from services.api.source_links import link_at

#: A video that a hundred jobs share does not list all of them with each of its key frames.
MAX_SOURCES = 20


def get_key_frame(connection: Connection, project_id: str, key_frame_id: str) -> KeyFrame:
    """Raises `NotFound`."""
    there = connection.execute(
        text(
            """SELECT FROM key_frames k JOIN extractions x ON x.id = k.extraction_id JOIN videos v ON v.id = x.video_id
            WHERE k.id = :id AND v.project_id = :project"""
        ),
        {"id": key_frame_id, "project": project_id},
    ).first()
    if there is None:
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
    sources = _sources(connection, project_id, {row.extraction_id for row in rows}, job_ids)
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
        sources=[
            # A player counts from the file's first stream, which may begin before the video does.
            SourceOfKeyFrame(
                job_id=source.job_id,
                url=source.url,
                title=source.title,
                link=link_at(source.url, row.time_s + row.start_s),
            )
            for source in sources
        ],
    )


def _sources(
    connection: Connection, project_id: str, extraction_ids: Collection[str], job_ids: Collection[str] | None
) -> dict[str, list[Any]]:
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
