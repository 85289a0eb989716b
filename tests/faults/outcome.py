"""What became of a job, in a form that two runs of the same videos share byte for byte; and what must always hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from shared.pipeline import Queue
from tests.faults.installation import Broken, Installation, wait_for

#: Where kombu notes messages that were handed out and not acknowledged.
UNACKED = "unacked"

#: How long a queue may hold messages of tasks that are done already.
DRAIN_S = 60
#: How long the folder of a task may be there after the commit that ended it.
FOLDER_GOES_S = 5


def outcome_of(installation: Installation, job_id: str) -> dict[str, Any]:
    """Every key frame with its picture's and its vectors' bytes, and every cluster, of a job that is final."""
    return {"sources": _sources(installation, job_id), "clusterings": _clusterings(installation, job_id)}


def _sources(installation: Installation, job_id: str) -> list[dict[str, Any]]:
    sources = installation.rows(
        """SELECT s.url, s.extraction_id, t.state, t.error_kind, x.frames, x.duration_s, x.shots, x.key_frame_count
        FROM sources s JOIN tasks t ON t.source_id = s.id LEFT JOIN extractions x ON x.id = s.extraction_id
        WHERE s.job_id = :job ORDER BY s.position""",
        job=job_id,
    )
    return [
        {
            # Where it came from this time, and as which copy of the video, is no part of the outcome.
            "name": PurePosixPath(urlsplit(source.url).path).name,
            **{name: value for name, value in source._mapping.items() if name not in ("url", "extraction_id")},
            "key_frames": _key_frames(installation, source.extraction_id),
        }
        for source in sources
    ]


def _key_frames(installation: Installation, extraction_id: str | None) -> list[dict[str, Any]]:
    key_frames = installation.rows(
        """SELECT k.position, k.frame_index, k.time_s, k.pts, k.shot_index, k.repeats, k.blob, k.small_blob,
               (SELECT jsonb_object_agg(e.model, md5(e.vector::text)) FROM embeddings e WHERE e.key_frame_id = k.id)
               AS vectors
        FROM key_frames k WHERE k.extraction_id = CAST(:extraction AS uuid) ORDER BY k.position""",
        extraction=extraction_id,
    )
    return [
        {**row._mapping, "blob": _digest(installation, row.blob), "small_blob": _digest(installation, row.small_blob)}
        for row in key_frames
    ]


def _digest(installation: Installation, blob: str) -> str:
    return hashlib.sha256(installation.blobs.read(blob)).hexdigest()


def _clusterings(installation: Installation, job_id: str) -> list[dict[str, Any]]:
    clusterings = installation.rows(
        """SELECT c.id, c.model, c.settings_key, c.key_frame_count, c.complete, c.n_clusters_used, c.seed, c.inertia
        FROM clusterings c JOIN jobs j ON j.id = c.job_id AND j.round = c.round
        JOIN tasks t ON t.clustering_id = c.id AND t.state = 'succeeded'
        WHERE c.job_id = :job AND NOT c.asked ORDER BY c.model""",
        job=job_id,
    )
    return [
        {
            **{name: value for name, value in clustering._mapping.items() if name != "id"},
            "clusters": [
                tuple(row)
                for row in installation.rows(
                    """SELECT label, size, video_count, mean_distance, md5(centroid::text) FROM clusters
                    WHERE clustering_id = :clustering ORDER BY label""",
                    clustering=clustering.id,
                )
            ],
            "assignments": [
                tuple(row)
                for row in installation.rows(
                    """SELECT s.position, k.frame_index, a.label, a.distance FROM assignments a
                    JOIN key_frames k ON k.id = a.key_frame_id
                    JOIN (SELECT extraction_id, min(position) AS position FROM sources WHERE job_id = :job
                          GROUP BY extraction_id) s ON s.extraction_id = k.extraction_id
                    WHERE a.clustering_id = :clustering ORDER BY s.position, k.frame_index""",
                    job=job_id,
                    clustering=clustering.id,
                )
            ],
        }
        for clustering in clusterings
    ]


#: Sentence -> rows that must not exist, whatever happened.
NEVER = {
    "I1 a job is final, and something of its own is open": """
        SELECT j.id FROM jobs j JOIN tasks t ON t.job_id = j.id AND t.state IN ('queued', 'running')
        LEFT JOIN clusterings c ON c.id = t.clustering_id
        WHERE j.state NOT IN ('queued', 'running') AND c.asked IS NOT TRUE""",
    "I1 a job is open, and nothing of it is": """
        SELECT id FROM jobs j WHERE state IN ('queued', 'running') AND NOT EXISTS (
            SELECT FROM tasks t WHERE t.job_id = j.id AND t.state IN ('queued', 'running'))""",
    "I1 a task failed without a reason": "SELECT id FROM tasks WHERE state = 'failed' AND error IS NULL",
    "I2 a source that succeeded has no key frames' mark": """
        SELECT s.id FROM sources s JOIN tasks t ON t.source_id = s.id AND t.state = 'succeeded'
        WHERE s.extraction_id IS NULL""",
    "I2 an extraction with other key frames than it counted": """
        SELECT x.id FROM extractions x WHERE x.key_frame_count <> (
            SELECT count(*) FROM key_frames k WHERE k.extraction_id = x.id)""",
    "I2 an embedding task succeeded and a vector of it is missing": """
        SELECT t.id, k.id FROM tasks t JOIN sources s ON s.job_id = t.job_id AND s.video_id = t.video_id
        JOIN key_frames k ON k.extraction_id = s.extraction_id AND k.position / 256 = t.chunk
        WHERE t.queue = 'embedding' AND t.state = 'succeeded' AND NOT EXISTS (
            SELECT FROM embeddings e WHERE e.key_frame_id = k.id AND e.model = t.model)""",
    "I2 a clustering succeeded without an assignment for each key frame": """
        SELECT c.id FROM clusterings c JOIN tasks t ON t.clustering_id = c.id AND t.state = 'succeeded'
        WHERE c.key_frame_count <> (SELECT count(*) FROM assignments a WHERE a.clustering_id = c.id)""",
    "I2 clusters of other sizes than their members": """
        SELECT c.id FROM clusters c WHERE c.size <> (
            SELECT count(*) FROM assignments a WHERE a.clustering_id = c.clustering_id AND a.label = c.label)""",
    "I3 two videos with the same content in one project": """
        SELECT project_id, sha256 FROM videos GROUP BY project_id, sha256 HAVING count(*) > 1""",
    "I3 two clusterings of one job, round, model and settings": """
        SELECT job_id, round, model, settings_key FROM clusterings WHERE NOT asked
        GROUP BY job_id, round, model, settings_key HAVING count(*) > 1""",
    "I3 two tasks about the same thing": """
        SELECT job_id, source_id, video_id, model, chunk, clustering_id, query_id FROM tasks
        GROUP BY job_id, source_id, video_id, model, chunk, clustering_id, query_id HAVING count(*) > 1""",
    "I4 a lease that is over": "SELECT id FROM tasks WHERE state = 'running' AND lease_until < now()",
    "I5 a task that is due and waits": "SELECT id FROM tasks WHERE state IN ('queued', 'running')",
    "I7 a task tried more often than allowed": "SELECT id FROM tasks WHERE attempt > attempts_allowed",
}


def violations(installation: Installation) -> list[str]:
    """What does not hold although it must, now that every job should be final. Waits for what may take a moment."""
    found = [f"{what}: {rows[:3]}" for what, statement in NEVER.items() if (rows := installation.rows(statement))]
    found += [f"I2 the picture {blob} is named by a row and is not there" for blob in _missing_blobs(installation)]
    with installation.broker() as broker:
        try:
            wait_for(
                lambda: not any(broker.llen(queue) for queue in Queue),
                for_s=DRAIN_S,
                what=lambda: f"empty queues: { {queue.value: broker.llen(queue) for queue in Queue} }",
            )
        except Broken as error:
            found.append(f"I6 {error}")
    found += [f"I6 an unacknowledged message names the open task {id}" for id in _open_and_unacknowledged(installation)]
    try:
        # A job is final with the commit; the folder goes right after it.
        wait_for(
            lambda: not installation.leftovers(),
            for_s=FOLDER_GOES_S,
            what=lambda: f"an empty work folder: {installation.leftovers()}",
        )
    except Broken as error:
        found.append(f"I8 {error}")
    return found


def _open_and_unacknowledged(installation: Installation) -> list[str]:
    """Tasks that are open and have a message that was handed out: nothing of the kind when all jobs are final."""
    with installation.broker() as broker:
        ids = [json.loads(entry)[0]["headers"]["id"] for entry in broker.hvals(UNACKED)]
    rows = installation.rows(
        "SELECT id FROM tasks WHERE id = ANY(CAST(:ids AS uuid[])) AND state IN ('queued', 'running')", ids=ids
    )
    return [row.id for row in rows]


def _missing_blobs(installation: Installation) -> Iterable[str]:
    rows = installation.rows(
        "SELECT unnest(array_remove(ARRAY[blob, small_blob, analysis_blob], NULL)) AS blob FROM key_frames"
    )
    there = {entry.name for entry in installation.blobs.entries("pictures/")}
    return [row.blob for row in rows if row.blob not in there][:3]


def differences(got: Any, expected: Any, where: str = "") -> list[str]:
    """Where two outcomes differ: the first few places, each in a line."""
    if isinstance(got, dict) and isinstance(expected, dict):
        return [
            line
            for name in {**got, **expected}
            for line in differences(got.get(name), expected.get(name), f"{where}.{name}")
        ][:5]
    if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        pairs = enumerate(zip(got, expected, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{where}[{i}]")][:5]
    return [] if got == expected else [f"I2 {where}: {str(got)[:200]} instead of {str(expected)[:200]}"]
