"""Rounds of a job: a clustering is made anew only when there is something new to cluster. On a real Postgres."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from services.clustering import store as clustering_store
from services.clustering.clusterer import ClusteringSettings, cluster
from shared import tasks
from shared.errors import ErrorKind


def clusterings_of(rows, job_id: str) -> list[tuple[str, int]]:
    """(model, round) of the job's clusterings, in the order in which they were made."""
    found = rows.all("SELECT model, round FROM clusterings WHERE job_id = :job ORDER BY created_at", job=job_id)
    return [(row.model, row.round) for row in found]


def finish(rows, job_id: str) -> None:
    """Do all that is open of the job, with real clusterings."""
    for claim in rows.claim(*rows.task_ids("keyframes", job_id)):
        rows.cut_up(claim)
    for claim in rows.claim(*rows.task_ids("embedding", job_id)):
        rows.embed(claim)
    for claim in rows.claim(*rows.task_ids("clustering", job_id)):
        rows.cluster(claim)


def fail(rows, claim, kind: ErrorKind = ErrorKind.NOT_FOUND) -> None:
    rows.end(claim, lambda connection, claim: tasks.fail(connection, claim, kind, "it is not there"))


def retry(database, job_id: str) -> None:
    with database.transaction() as connection:
        tasks.retry_job(connection, job_id)
        tasks.advance(connection, job_id)


def ask_for_a_clustering(database) -> str:
    """Another clustering by the same settings, as the API asks for one. Returns its id."""
    with database.transaction() as connection:
        asked = connection.execute(
            text(
                """INSERT INTO clusterings (job_id, round, model, settings, settings_key, asked)
                SELECT job_id, round, model, settings, settings_key, true FROM clusterings RETURNING id, job_id"""
            )
        ).one()
        tasks.add_clustering_task(connection, asked.job_id, asked.id)
    return str(asked.id)


def test_rounds_without_a_change_keep_the_clusterings_there_are(rows, database):
    job_id = rows.job(sources=2, models=("colour", "edges"))
    fail(rows, *rows.claim(rows.task_ids("keyframes")[0]))
    finish(rows, job_id)
    assert rows.job_state(job_id) == "partly_failed"
    for round_ in (2, 3):
        retry(database, job_id)
        assert rows.job_state(job_id) == "running"
        fail(rows, *rows.claim(*rows.task_ids("keyframes")))
        assert rows.job_state(job_id) == "partly_failed"
        assert rows.task_ids("clustering") == []
        assert sorted(clusterings_of(rows, job_id)) == [("colour", round_), ("edges", round_)]


def test_a_retry_that_finds_something_makes_new_clusterings(rows, database):
    job_id = rows.job(sources=2)
    fail(rows, *rows.claim(rows.task_ids("keyframes")[0]))
    finish(rows, job_id)
    retry(database, job_id)
    finish(rows, job_id)
    assert rows.job_state(job_id) == "succeeded"
    assert clusterings_of(rows, job_id) == [("colour", 1), ("colour", 2)]


def test_the_same_video_at_another_address_changes_nothing(rows):
    job_id = rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")), sha256="the film")
    finish(rows, job_id)
    rows.add_sources(job_id)
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")), sha256="the film")
    assert rows.job_state(job_id) == "succeeded"
    assert clusterings_of(rows, job_id) == [("colour", 2)]


def test_as_many_other_moments_are_a_change(rows, database):
    job_id = rows.job(sources=2)
    for claim, sha256 in zip(rows.claim(*rows.task_ids("keyframes")), ("one", "two"), strict=True):
        rows.cut_up(claim, sha256=sha256)
    finish(rows, job_id)
    rows.do("DELETE FROM sources WHERE video_id = (SELECT id FROM videos WHERE sha256 = 'one')")
    rows.add_sources(job_id)
    finish(rows, job_id)
    assert clusterings_of(rows, job_id) == [("colour", 1), ("colour", 2)]


def test_other_settings_are_a_change(rows):
    job_id = rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")), sha256="the film")
    finish(rows, job_id)
    rows.do("UPDATE jobs SET clustering = clustering || '{\"seed\": 7}'")
    rows.add_sources(job_id)
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")), sha256="the film")
    finish(rows, job_id)
    assert clusterings_of(rows, job_id) == [("colour", 1), ("colour", 2)]


@pytest.mark.parametrize("changed", [False, True])
def test_a_clustering_that_is_still_running_may_come_out_as_that_of_the_next_round(rows, database, changed):
    job_id = rows.job(sources=2)
    bad, good = rows.claim(*rows.task_ids("keyframes"))
    fail(rows, bad)
    rows.cut_up(good)
    rows.embed(*rows.claim(*rows.task_ids("embedding")))
    [running] = rows.claim(*rows.task_ids("clustering"))
    with database.transaction() as connection:
        vectors = clustering_store.load(connection, running)
    retry(database, job_id)
    [again] = rows.claim(*rows.task_ids("keyframes"))
    if changed:
        rows.cut_up(again)
        rows.embed(*rows.claim(*rows.task_ids("embedding")))
    else:
        fail(rows, again)
    assert rows.task_ids("clustering") == [], "the one that runs is waited for"
    assert rows.job_state(job_id) == "running"
    settings = ClusteringSettings(parameters={"n_clusters": 2})
    rows.save(running, clustering_store, cluster(vectors.X, settings, groups=vectors.videos), vectors)
    finish(rows, job_id)
    assert rows.job_state(job_id) == ("succeeded" if changed else "partly_failed")
    assert clusterings_of(rows, job_id) == ([("colour", 1), ("colour", 2)] if changed else [("colour", 2)])


def test_a_clustering_that_a_person_removed_does_not_come_back_by_itself(rows, database):
    job_id = rows.job()
    finish(rows, job_id)
    asked = ask_for_a_clustering(database)
    rows.do("DELETE FROM clusterings WHERE NOT asked")
    rows.cluster(*rows.claim(*rows.task_ids("clustering")))
    assert rows.job_state(job_id) == "succeeded"
    assert rows.one("SELECT id FROM clusterings") == asked
