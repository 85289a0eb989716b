"""Moves key frames between tables, blobs and plain data."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, case, insert, select, text
from sqlalchemy.dialects import postgresql

from services.keyframes import extraction as pictures
from services.keyframes.extraction import Extraction
from services.keyframes.fetching.sites import VideoList
from shared import catalog, tasks
from shared.blobs import BlobStore
from shared.clean_text import one_clean_line
from shared.errors import ErrorKind, PermanentError, TransientError
from shared.pictures import SMALL_PICTURE_PX
from shared.sources import MAX_LISTED, NewSource, add_sources
from shared.tables import extractions, key_frames, sources, videos
from shared.tasks import Claim
from shared.urls import parse_source_url


@dataclass(frozen=True)
class SourceWork:
    """One source to fetch and cut up.

    list_levels: how many levels of lists of videos may become their videos; 0: a list is refused.
    settings: `{"strategy": …, parameters}`. upload: blob, SHA-256 and file name of an `upload:` source, else None.
    """

    source_id: str
    project_id: str
    url: str
    list_levels: int
    settings: Mapping[str, Any]
    upload: tuple[str, str, str] | None


@dataclass(frozen=True)
class SourceResult:
    """What was behind a source.

    extraction: None when the project had it already, and then `extraction_id` is the one it has.
    """

    sha256: str
    size_bytes: int
    title: str | None
    recipe: str
    analysis_recipe: str
    extraction_id: str
    extraction: Extraction | None


def recipe(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything that chooses and makes key frames."""
    choice = {name: value for name, value in settings.items() if name not in catalog.COMMON_KEY_FRAMES}
    return catalog.canonical_sha256(
        {
            "settings": choice,
            "version": catalog.strategies()[settings["strategy"]].version,
            "pictures": [
                pictures.PICTURE_VERSION,
                {**catalog.COMMON_KEY_FRAMES, **settings}["picture_px"],
                pictures.PICTURE_QUALITY,
                SMALL_PICTURE_PX,
                pictures.SMALL_PICTURE_QUALITY,
            ],
        }
    )


def analysis_recipe(settings: Mapping[str, Any]) -> str:
    """The recipe of what models see of the same key frames: that of pictures that are no larger and no smaller."""
    return recipe({**settings, "picture_px": pictures.ANALYSIS_PX})


def picture_px(settings: Mapping[str, Any]) -> int | None:
    """The longest side of the pictures that are kept; None for as large as the video is."""
    asked = {**catalog.COMMON_KEY_FRAMES, **settings}["picture_px"]
    return None if asked == catalog.AS_DECODED else asked


def load(connection: Connection, claim: Claim) -> SourceWork | None:
    """The source of a keyframes task; None when it was deleted."""
    row = connection.execute(
        text(
            """
            SELECT s.id, j.project_id, s.url, s.list_levels, j.key_frames, u.blob, u.sha256, u.file_name
            FROM sources s JOIN jobs j ON j.id = s.job_id
            LEFT JOIN uploads u ON s.url = 'upload:' || u.id AND u.project_id = j.project_id
            WHERE s.id = :source"""
        ),
        {"source": claim.source_id},
    ).one_or_none()
    if row is None:
        return None
    upload = (row.blob, row.sha256, row.file_name) if row.blob else None
    return SourceWork(row.id, row.project_id, row.url, row.list_levels, row.key_frames, upload)


def find_extraction(connection: Connection, project_id: str, sha256: str, recipe: str) -> str | None:
    """The id of the extraction that the project has of these bytes by this recipe, if it has one."""
    return connection.execute(
        select(extractions.c.id)
        .join(videos, videos.c.id == extractions.c.video_id)
        .where(videos.c.project_id == project_id, videos.c.sha256 == sha256, extractions.c.recipe == recipe)
    ).scalar()


def put_pictures(blobs: BlobStore, extraction_id: str, extraction: Extraction) -> None:
    """Store the pictures of an extraction, before its rows are written."""
    sources = {}
    for key_frame in extraction.key_frames:
        sources[_blob(extraction_id, key_frame.frame_index)] = key_frame.file
        sources[_small_blob(extraction_id, key_frame.frame_index)] = key_frame.small_file
        if key_frame.analysis_file is not None:
            sources[_analysis_blob(extraction_id, key_frame.frame_index)] = key_frame.analysis_file
    blobs.put_all(sources)


def _blob(extraction_id: str, frame_index: int) -> str:
    return f"pictures/{extraction_id}/{frame_index:07d}.jpg"


def _small_blob(extraction_id: str, frame_index: int) -> str:
    return f"pictures/{extraction_id}/{frame_index:07d}_small.jpg"


def _analysis_blob(extraction_id: str, frame_index: int) -> str:
    return f"pictures/{extraction_id}/{frame_index:07d}_analysis.jpg"


def new_extraction_id() -> str:
    """An id that no other attempt uses, so that no blob name is ever written twice."""
    return str(uuid.uuid4())


def save(connection: Connection, claim: Claim, source: SourceWork, result: SourceResult) -> None:
    """Write video, extraction and key frames once, and queue the embedding of what has no vector yet."""
    assert claim.job_id
    video_id = _keep_video(connection, source.project_id, result)
    extraction_id = _keep_extraction(connection, claim, video_id, source, result)
    connection.execute(
        sources.update()
        .where(sources.c.id == claim.source_id)
        .values(
            video_id=video_id,
            extraction_id=extraction_id,
            # What a list calls its videos says more than the names of their files.
            title=case(
                (sources.c.parent_id.is_not(None) & sources.c.title.is_not(None), sources.c.title),
                else_=one_clean_line(result.title or "") or None,
            ),
        )
    )
    # The job's row last: models that somebody adds now are either seen here, or see this video.
    tasks.lock_job(connection, claim.job_id)
    tasks.add_embedding_tasks(connection, claim.job_id, [video_id])


def save_list(connection: Connection, claim: Claim, source: SourceWork, listed: VideoList) -> None:
    """Let the videos of a list be sources of the job, each with a task of its own.

    Raises PermanentError(PLAYLIST) where the list that it is in has brought as many as a list may.
    """
    assert claim.job_id
    tasks.lock_job(connection, claim.job_id)
    room = MAX_LISTED - _brought_with(connection, source.source_id)
    if room <= 0:
        raise PermanentError(
            ErrorKind.PLAYLIST,
            f"{source.url}: the list that names it has brought {MAX_LISTED:,} sources already, the most that a list "
            "may bring with all lists in it; submit this one by itself.",
        )
    entries = listed.entries[:room]
    new = [NewSource(entry.url, parse_source_url(entry.url).limit_key, entry.title) for entry in entries]
    add_sources(connection, claim.job_id, new, list_levels=source.list_levels - 1, parent_id=source.source_id)
    connection.execute(
        sources.update().where(sources.c.id == source.source_id).values(expanded_into=len(new), title=listed.title)
    )
    tasks.add_keyframes_tasks(connection, claim.job_id)


def _brought_with(connection: Connection, source_id: str) -> int:
    """How many sources came from the list that a person submitted and that this one is, or came from."""
    brought: int = connection.execute(
        text(
            """
            WITH RECURSIVE up (id, parent_id) AS (
                SELECT id, parent_id FROM sources WHERE id = :source
                UNION ALL SELECT s.id, s.parent_id FROM sources s JOIN up ON s.id = up.parent_id
            ), down (id) AS (
                SELECT id FROM up WHERE parent_id IS NULL
                UNION ALL SELECT s.id FROM sources s JOIN down ON s.parent_id = down.id
            )
            SELECT count(*) - 1 FROM down"""
        ),
        {"source": source_id},
    ).scalar_one()
    return brought


def _keep_video(connection: Connection, project_id: str, result: SourceResult) -> str:
    """The video's id; its row stays locked, so that two workers with the same bytes take turns."""
    statement = postgresql.insert(videos).values(
        project_id=project_id, sha256=result.sha256, size_bytes=result.size_bytes
    )
    video_id: str = connection.execute(
        statement.on_conflict_do_update(
            index_elements=[videos.c.project_id, videos.c.sha256], set_={"size_bytes": statement.excluded.size_bytes}
        ).returning(videos.c.id)
    ).scalar_one()
    return video_id


def _keep_extraction(
    connection: Connection, claim: Claim, video_id: str, source: SourceWork, result: SourceResult
) -> str:
    # A job shows a video once, also when the recipe's code changed between two of its sources.
    known_id: str | None = connection.execute(
        text(
            """
            SELECT x.id FROM extractions x WHERE x.video_id = :video AND (x.recipe = :recipe OR x.id IN (
                SELECT s.extraction_id FROM sources s WHERE s.job_id = :job AND s.video_id = :video))
            ORDER BY x.recipe <> :recipe DESC LIMIT 1"""
        ),
        {"video": video_id, "recipe": result.recipe, "job": claim.job_id},
    ).scalar()
    if known_id:
        return known_id
    if result.extraction is None:
        raise TransientError(
            ErrorKind.INTERNAL, "the key frames that this video had were deleted meanwhile; it is cut up again"
        )
    _write_extraction(connection, video_id, source.settings, result, result.extraction)
    _take_vectors_over(connection, video_id, result)
    return result.extraction_id


def _write_extraction(
    connection: Connection, video_id: str, settings: Mapping[str, Any], result: SourceResult, extraction: Extraction
) -> None:
    connection.execute(
        insert(extractions).values(
            id=result.extraction_id,
            video_id=video_id,
            recipe=result.recipe,
            analysis_recipe=result.analysis_recipe,
            settings=dict(settings),
            frames=extraction.frames,
            duration_s=extraction.duration_s,
            facts=asdict(extraction.facts),
            shots=[[shot.start_frame, shot.end_frame, shot.start_s, shot.end_s] for shot in extraction.shots],
            damaged_packets=extraction.damaged_packets,
            key_frame_count=len(extraction.key_frames),
        )
    )
    connection.execute(
        insert(key_frames),
        [
            {
                "extraction_id": result.extraction_id,
                "position": position,
                "frame_index": key_frame.frame_index,
                "time_s": key_frame.time_s,
                "pts": key_frame.pts,
                "shot_index": key_frame.shot_index,
                "width_px": key_frame.width_px,
                "height_px": key_frame.height_px,
                "blob": _blob(result.extraction_id, key_frame.frame_index),
                "small_blob": _small_blob(result.extraction_id, key_frame.frame_index),
                "analysis_blob": key_frame.analysis_file
                and _analysis_blob(result.extraction_id, key_frame.frame_index),
                "repeats": [list(span) for span in key_frame.repeats],
            }
            for position, key_frame in enumerate(extraction.key_frames)
        ],
    )


def _take_vectors_over(connection: Connection, video_id: str, result: SourceResult) -> None:
    """Copy the vectors of the same frames, of which models see the same: only the pictures that are kept are new."""
    connection.execute(
        text(
            """
            INSERT INTO embeddings (key_frame_id, model, vector)
            SELECT k.id, e.model, e.vector
            FROM key_frames k
            JOIN extractions x ON x.video_id = :video AND coalesce(x.analysis_recipe, x.recipe) = :recipe
                 AND x.id <> k.extraction_id
            JOIN key_frames known ON known.extraction_id = x.id AND known.frame_index = k.frame_index
            JOIN embeddings e ON e.key_frame_id = known.id
            WHERE k.extraction_id = :extraction
            ON CONFLICT DO NOTHING"""
        ),
        {"video": video_id, "recipe": result.analysis_recipe, "extraction": result.extraction_id},
    )
