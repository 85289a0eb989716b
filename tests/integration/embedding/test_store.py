"""Key frames out, vectors in, each once; models under their fingerprint."""

from __future__ import annotations

import select
from dataclasses import dataclass

import numpy as np
import psycopg2
import pytest
from sqlalchemy import text

from services.embedding import store
from shared import tasks
from shared.errors import ErrorKind, PermanentError
from shared.pipeline import CHUNK_SIZE, Queue
from shared.tables import DEFAULT_PROJECT_ID


@dataclass(frozen=True)
class FakeModel:
    """As much of a loaded model as is written down."""

    dimension: int = 4
    fingerprint: str = "first weights"


def load(database, claim):
    with database.transaction() as connection:
        return store.load(connection, claim)


def register(database, model) -> None:
    with database.transaction() as connection:
        store.register_model(connection, "colour", model)


def test_chunks_hold_their_key_frames_in_order(rows, database):
    rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")), key_frames_=300)
    claims = sorted(rows.claim(*rows.task_ids("embedding")), key=lambda claim: claim.chunk)
    works = [load(database, claim) for claim in claims]
    assert [len(work.ids) for work in works] == [CHUNK_SIZE, 300 - CHUNK_SIZE]
    blobs = [blob for work in works for blob in work.blobs]
    assert blobs == [row.blob for row in rows.all("SELECT blob FROM key_frames ORDER BY position")]


def test_models_see_the_analysis_picture_where_there_is_one(rows, database):
    rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")), key_frames_=2)
    rows.do("UPDATE key_frames SET analysis_blob = 'pictures/seen.jpg' WHERE position = 1")
    [claim] = rows.claim(*rows.task_ids("embedding"))
    first = rows.one("SELECT blob FROM key_frames WHERE position = 0")
    assert load(database, claim).blobs == (first, "pictures/seen.jpg")


def test_vectors_come_back_as_they_were(rows, database):
    rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")), key_frames_=2)
    [claim] = rows.claim(*rows.task_ids("embedding"))
    register(database, FakeModel())
    work = load(database, claim)
    X = np.array([[1e-7, 1 / 3, -2.5, 3e8], [0, 1, 2, 3]], dtype=np.float32)
    rows.save(claim, store, X, work)
    kept = rows.all(
        "SELECT e.vector::text FROM embeddings e JOIN key_frames k ON k.id = key_frame_id ORDER BY position"
    )
    assert np.array_equal(np.array([row[0].strip("[]").split(",") for row in kept], dtype=np.float32), X)


def test_two_jobs_that_embed_the_same_video_at_once_write_each_vector_once(rows, database):
    for _ in range(2):
        rows.cut_up(*rows.claim(*rows.task_ids("keyframes", rows.job())), sha256="same")
    first, second = rows.claim(*rows.task_ids("embedding"))
    works = {claim.task_id: load(database, claim) for claim in (first, second)}
    register(database, FakeModel())
    for claim in (second, first):
        assert rows.save(claim, store, np.zeros((3, 4), np.float32), works[claim.task_id])
    assert rows.one("SELECT count(*) FROM embeddings") == 3
    assert rows.one("SELECT count(*) FROM tasks WHERE queue = 'clustering'") == 2


def test_what_another_job_embedded_meanwhile_is_not_embedded_again(rows, database):
    for _ in range(2):
        rows.cut_up(*rows.claim(*rows.task_ids("keyframes", rows.job())), sha256="same")
    first, second = rows.claim(*rows.task_ids("embedding"))
    rows.embed(first)
    assert load(database, second).ids == ()
    assert rows.embed(second)


def test_a_late_worker_saves_no_vector(rows, database):
    rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")))
    [claim] = rows.claim(*rows.task_ids("embedding"), lease_s=-1)
    with database.transaction() as connection:
        tasks.take_back_expired(connection)
    assert rows.embed(claim) is False
    assert rows.one("SELECT count(*) FROM embeddings") == 0


def test_a_models_first_worker_writes_down_what_it_is(rows, database):
    register(database, FakeModel())
    register(database, FakeModel())
    assert rows.all("SELECT name, dimension, fingerprint FROM models") == [("colour", 4, "first weights")]


@pytest.mark.parametrize("other", [FakeModel(fingerprint="other weights"), FakeModel(dimension=8)])
def test_other_weights_under_the_same_name_are_refused(rows, database, other):
    register(database, FakeModel())
    with pytest.raises(PermanentError, match="colour changed") as error:
        register(database, other)
    assert error.value.kind is ErrorKind.WEIGHTS_CHANGED
    assert rows.one("SELECT fingerprint FROM models") == "first weights"


def test_why_a_model_could_not_be_loaded_is_forgotten_once_it_could(rows, database):
    with database.transaction() as connection:
        store.note_problem(connection, "colour", "the weights are missing")
    assert rows.one("SELECT problem FROM models") == "the weights are missing"
    register(database, FakeModel())
    assert rows.all("SELECT problem, fingerprint FROM models") == [(None, "first weights")]


def test_a_query_picture_gets_its_vector_and_who_waits_is_told(rows, database, database_url):
    with database.transaction() as connection:
        query_id = connection.execute(
            text("INSERT INTO queries (project_id, model, blob) VALUES (:p, 'colour', 'queries/x') RETURNING id"),
            {"p": DEFAULT_PROJECT_ID},
        ).scalar_one()
        tasks.add_query_task(connection, query_id)
    [claim] = rows.claim(*rows.task_ids(Queue.QUERY))
    work = load(database, claim)
    assert (work.ids, work.blobs) == ((query_id,), ("queries/x",))
    listener = psycopg2.connect(database_url.replace("postgresql+psycopg2", "postgresql"))
    try:
        listener.autocommit = True
        listener.cursor().execute(f"LISTEN {tasks.QUERIES_CHANNEL}")
        rows.save(claim, store, np.ones((1, 4), np.float32), work)
        assert select.select([listener], [], [], 5)[0]
        listener.poll()
        assert [notify.payload for notify in listener.notifies] == [query_id]
    finally:
        listener.close()
    assert rows.one("SELECT vector::text FROM queries") == "[1,1,1,1]"
