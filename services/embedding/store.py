"""Moves pictures and vectors between tables, blobs and plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql

from services.embedding.embedder import Embedder, Vectors
from shared.errors import ErrorKind, PermanentError
from shared.pipeline import chunk_bounds
from shared.tables import embeddings, models
from shared.tasks import QUERIES_CHANNEL, Claim
from shared.vectors import to_text


@dataclass(frozen=True)
class PicturesWork:
    """Pictures of one task that lack a vector of `model`.

    ids: of key frames, or the one of a query picture. blobs: where their bytes are, in the same order.
    """

    model: str
    ids: tuple[str, ...]
    blobs: tuple[str, ...]


def load(connection: Connection, claim: Claim) -> PicturesWork | None:
    """The pictures of an embedding task, or of a query; None when they were deleted."""
    assert claim.model
    if claim.query_id is not None:
        rows = connection.execute(
            text("SELECT id, blob FROM queries WHERE id = :query"), {"query": claim.query_id}
        ).all()
        if not rows:
            return None
    else:
        first, end = chunk_bounds(claim.chunk or 0)
        rows = connection.execute(
            text(
                """
                SELECT k.id, coalesce(k.analysis_blob, k.blob) AS blob FROM key_frames k
                WHERE k.extraction_id = (
                    SELECT s.extraction_id FROM sources s
                    WHERE s.job_id = :job AND s.video_id = :video AND s.extraction_id IS NOT NULL LIMIT 1)
                  AND k.position >= :first AND k.position < :end
                  AND NOT EXISTS (SELECT FROM embeddings e WHERE e.key_frame_id = k.id AND e.model = :model)
                ORDER BY k.position"""
            ),
            {"job": claim.job_id, "video": claim.video_id, "first": first, "end": end, "model": claim.model},
        ).all()
    return PicturesWork(claim.model, tuple(row.id for row in rows), tuple(row.blob for row in rows))


def save(connection: Connection, claim: Claim, work: PicturesWork, X: Vectors) -> None:
    """Write the vectors that are not there yet; a query's vector goes to its row, and who waits for it is told."""
    if claim.query_id is not None:
        connection.execute(
            text("UPDATE queries SET vector = CAST(:vector AS vector) WHERE id = :query"),
            {"vector": to_text(X[0]), "query": claim.query_id},
        )
        connection.execute(
            text("SELECT pg_notify(:channel, :query)"), {"channel": QUERIES_CHANNEL, "query": claim.query_id}
        )
        return
    if not work.ids:
        return
    # Two jobs may embed the same video at once: in one order, so that they do not wait for each other in a circle.
    rows = sorted(zip(work.ids, X, strict=True), key=lambda row: row[0])
    connection.execute(
        postgresql.insert(embeddings).on_conflict_do_nothing(),
        [{"key_frame_id": id_, "model": work.model, "vector": vector} for id_, vector in rows],
    )


def register_model(connection: Connection, name: str, embedder: Embedder) -> None:
    """Write down the model's dimension and fingerprint, or compare them with what the first worker wrote.

    Raises `PermanentError` (weights_changed): vectors of two sets of weights must not stand under one name.
    """
    statement = postgresql.insert(models).values(
        name=name, dimension=embedder.dimension, fingerprint=embedder.fingerprint, loaded_at=text("now()")
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[models.c.name],
            set_={
                "dimension": text("coalesce(models.dimension, excluded.dimension)"),
                "fingerprint": text("coalesce(models.fingerprint, excluded.fingerprint)"),
                "loaded_at": text("coalesce(models.loaded_at, excluded.loaded_at)"),
                "problem": None,
                "problem_at": None,
                "looked_at": text("now()"),
                "missing": None,
            },
        )
    )
    known = connection.execute(
        text("SELECT dimension, fingerprint FROM models WHERE name = :name"), {"name": name}
    ).one()
    if (known.dimension, known.fingerprint) != (embedder.dimension, embedder.fingerprint):
        raise PermanentError(
            ErrorKind.WEIGHTS_CHANGED,
            f"the weights, pooling or preprocessing of {name} changed since its first vectors were made; "
            "give the new ones a name of their own (REELMAP_OWN_MODELS)",
        )


def note_problem(connection: Connection, name: str, problem: str) -> None:
    """Write down why the model could not be loaded, so that the API can refuse it once instead of in every task."""
    connection.execute(
        text(
            """
            INSERT INTO models (name, problem, problem_at) VALUES (:name, :problem, now())
            ON CONFLICT (name) DO UPDATE SET problem = excluded.problem, problem_at = excluded.problem_at"""
        ),
        {"name": name, "problem": problem},
    )


def note_missing(connection: Connection, missing: Mapping[str, str | None]) -> None:
    """Write down of each model whether its weights can be had (None), or why not."""
    for name in sorted(missing):  # in one order, so that workers do not wait for each other in a circle
        statement = postgresql.insert(models).values(name=name, missing=missing[name], looked_at=text("now()"))
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[models.c.name],
                set_={"missing": statement.excluded.missing, "looked_at": statement.excluded.looked_at},
            )
        )
