"""Sources in, videos, extractions and key frames out, each once."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from services.keyframes import store
from services.keyframes.fetching.sites import ListedVideo, VideoList
from shared import tasks
from shared.errors import ErrorKind, PermanentError, TransientError
from shared.tables import DEFAULT_PROJECT_ID


def claim_all(rows, job_id=None):
    return rows.claim(*rows.task_ids("keyframes", job_id))


def test_a_source_is_loaded_with_its_jobs_settings(rows, database):
    rows.job()
    [claim] = claim_all(rows)
    with database.transaction() as connection:
        work = store.load(connection, claim)
    assert (work.source_id, work.project_id, work.upload) == (claim.source_id, DEFAULT_PROJECT_ID, None)
    assert work.url.startswith("http://videos.example/")
    assert work.settings == {"strategy": "uniform", "every_s": 1.0}


def test_an_upload_is_loaded_with_its_blob(rows, database):
    rows.job()
    upload_id = rows.one(
        """INSERT INTO uploads (project_id, file_name, size_bytes, sha256, blob)
        VALUES (:p, 'cat.mp4', 3, 'abc', 'uploads/x') RETURNING id""",
        p=DEFAULT_PROJECT_ID,
    )
    rows.do("UPDATE sources SET url = 'upload:' || CAST(:id AS text)", id=upload_id)
    [claim] = claim_all(rows)
    with database.transaction() as connection:
        assert store.load(connection, claim).upload == ("uploads/x", "abc", "cat.mp4")


def test_what_a_video_holds_is_written_and_its_embedding_queued(rows, database, make_source_result):
    job_id = rows.job(models=["colour", "shape"])
    [claim] = claim_all(rows)
    result = make_source_result(3, "abc", title="A cat")
    assert rows.save(claim, store, result)
    assert rows.all("SELECT title FROM sources WHERE video_id IS NOT NULL") == [("A cat",)]
    [extraction] = rows.all("SELECT id, recipe, frames, duration_s, key_frame_count, shots, facts FROM extractions")
    assert extraction[:5] == (result.extraction_id, "recipe", 100, 4.0, 3)
    assert extraction.shots == [[0, 100, 0.0, 4.0]] and extraction.facts["codec"] == "h264"
    key_frames = rows.all("SELECT position, frame_index, time_s, blob FROM key_frames ORDER BY position")
    assert [tuple(k)[:3] for k in key_frames] == [(0, 0, 0.0), (1, 10, 0.4), (2, 20, 0.8)]
    assert key_frames[1].blob == f"pictures/{result.extraction_id}/0000010.jpg"
    queued = rows.all("SELECT model, chunk FROM tasks WHERE queue = 'embedding' AND job_id = :id ORDER BY 1", id=job_id)
    assert queued == [("colour", 0), ("shape", 0)]
    with database.transaction() as connection:
        assert store.find_extraction(connection, DEFAULT_PROJECT_ID, "abc", "recipe") == result.extraction_id
        assert store.find_extraction(connection, DEFAULT_PROJECT_ID, "abc", "another recipe") is None


def test_two_workers_with_the_same_new_video_write_it_once(rows, make_source_result):
    rows.job()
    rows.job()
    claims = claim_all(rows)
    gate = threading.Barrier(2)

    def save(claim) -> None:
        gate.wait()
        assert rows.save(claim, store, make_source_result(3, "same"))

    threads = [threading.Thread(target=save, args=(claim,)) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = (
        "SELECT (SELECT count(*) FROM videos), (SELECT count(*) FROM extractions), (SELECT count(*) FROM key_frames)"
    )
    assert rows.all(counts) == [(1, 1, 3)]
    assert rows.one("SELECT count(DISTINCT extraction_id) FROM sources") == 1
    assert rows.one("SELECT count(*) FROM sources WHERE extraction_id IS NOT NULL") == 2


def test_a_known_extraction_is_only_pointed_at(rows, make_source_result):
    rows.job(sources=2)
    first, second = claim_all(rows)
    result = make_source_result(3, "same")
    rows.save(first, store, result)
    rows.save(second, store, make_source_result(3, "same", known=result.extraction_id))
    assert rows.one("SELECT count(*) FROM key_frames") == 3


def test_a_known_extraction_that_was_deleted_meanwhile_is_made_again(rows, make_source_result):
    rows.job()
    [claim] = claim_all(rows)
    with pytest.raises(TransientError):
        rows.save(claim, store, make_source_result(3, "gone", known=store.new_extraction_id()))
    assert rows.one("SELECT count(*) FROM videos") == 0
    assert rows.one("SELECT state FROM tasks") == "running", "rolled back; the runner queues it again"


def test_a_job_shows_a_video_once_also_when_its_recipe_changed_meanwhile(rows, make_source_result):
    rows.job(sources=2)
    first, second = claim_all(rows)
    rows.save(first, store, make_source_result(3, "same"))
    rows.save(second, store, make_source_result(5, "same", recipe="newer code"))
    assert rows.one("SELECT count(DISTINCT extraction_id) FROM sources") == 1


SETTINGS = {"strategy": "uniform", "every_s": 1.0}


@pytest.mark.parametrize("picture_px", [640, 1920, "decoded"])
def test_another_size_of_pictures_is_another_recipe_and_the_same_for_models(picture_px):
    other = {**SETTINGS, "picture_px": picture_px}
    assert store.recipe(other) != store.recipe(SETTINGS)
    assert store.analysis_recipe(other) == store.analysis_recipe(SETTINGS)
    assert store.picture_px(other) == (None if picture_px == "decoded" else picture_px)


def test_jobs_from_before_there_was_a_choice_keep_their_extractions():
    assert store.recipe(SETTINGS) == store.recipe({**SETTINGS, "picture_px": 960}) == store.analysis_recipe(SETTINGS)
    assert store.recipe({**SETTINGS, "every_s": 2.0}) != store.recipe(SETTINGS)
    assert store.picture_px(SETTINGS) == 960


def larger_pictures(make_source_result, **changes):
    """A result whose pictures have another size than what models see."""
    result = make_source_result(3, "same", recipe="larger pictures", **changes)
    key_frames = tuple(replace(each, analysis_file=Path("seen.jpg")) for each in result.extraction.key_frames)
    return replace(result, extraction=replace(result.extraction, key_frames=key_frames))


@pytest.mark.parametrize("version", ["this", "before"])
def test_another_size_of_pictures_costs_no_vectors(version, rows, make_source_result):
    rows.job(models=["colour"])
    rows.save(*claim_all(rows), store, make_source_result(3, "same"))
    if version == "before":  # as its workers write it, while both run
        rows.do("UPDATE extractions SET analysis_recipe = NULL")
    rows.embed(*rows.claim(*rows.task_ids("embedding")))
    again = rows.job(models=["colour", "shape"])
    result = larger_pictures(make_source_result)
    assert rows.save(*claim_all(rows, again), store, result)
    assert rows.one("SELECT count(*) FROM extractions") == 2
    vectors = """SELECT e.vector::text FROM embeddings e JOIN key_frames k ON k.id = e.key_frame_id
        WHERE (k.extraction_id = CAST(:x AS uuid)) = :new AND model = 'colour' ORDER BY position"""
    taken_over = rows.all(vectors, x=result.extraction_id, new=True)
    assert len(taken_over) == 3 and taken_over == rows.all(vectors, x=result.extraction_id, new=False)
    queued = rows.all("SELECT model FROM tasks WHERE queue = 'embedding' AND job_id = :id", id=again)
    assert queued == [("shape",)], "models that the first job did not have see the new pictures"
    blobs = rows.all("SELECT analysis_blob FROM key_frames WHERE analysis_blob IS NOT NULL ORDER BY position")
    assert blobs[1] == (f"pictures/{result.extraction_id}/0000010_analysis.jpg",)


def test_vectors_of_other_frames_are_not_taken_over(rows, make_source_result):
    rows.job(models=["colour"])
    rows.save(*claim_all(rows), store, make_source_result(3, "same"))
    rows.embed(*rows.claim(*rows.task_ids("embedding")))
    again = rows.job(models=["colour"])
    result = larger_pictures(make_source_result, analysis_recipe="chosen otherwise")
    assert rows.save(*claim_all(rows, again), store, result)
    assert rows.one("SELECT count(*) FROM embeddings") == 3
    assert rows.one("SELECT count(*) FROM tasks WHERE queue = 'embedding' AND job_id = :id", id=again) == 1


def test_a_late_worker_saves_nothing(rows, database, make_source_result):
    rows.job()
    [task_id] = rows.task_ids("keyframes")
    [late] = rows.claim(task_id, lease_s=-1)
    with database.transaction() as connection:
        tasks.take_back_expired(connection)
    rows.claim(task_id)
    assert rows.save(late, store, make_source_result(3, "late")) is False
    assert rows.one("SELECT count(*) FROM videos") == 0


def test_models_added_while_a_video_is_being_saved_are_not_missed(rows, database, make_source_result):
    job_id = rows.job(models=["colour"])
    [claim] = claim_all(rows)
    saving = threading.Thread(target=rows.save, args=(claim, store, make_source_result(3, "abc")))
    with database.transaction() as connection:
        tasks.lock_job(connection, job_id)
        saving.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not rows.one(waits):
            pass
        connection.execute(text("UPDATE jobs SET models = '{colour,shape}'"))
        tasks.next_round(connection, job_id)
        tasks.add_embedding_tasks(connection, job_id)
        tasks.advance(connection, job_id)
    saving.join()
    assert rows.all("SELECT model FROM tasks WHERE queue = 'embedding' ORDER BY model") == [("colour",), ("shape",)]


def test_models_added_while_a_chunk_is_being_saved_do_not_wait_for_it(rows, database):
    """The worker has ended its task and waits for the job, which the person holds: neither may wait for both."""
    job_id = rows.job(models=["colour"])
    rows.cut_up(*claim_all(rows))
    [claim] = rows.claim(*rows.task_ids("embedding"))
    with database.engine.connect() as worker, worker.begin():
        assert tasks.succeed(worker, claim)
        with database.transaction() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            tasks.lock_job(connection, job_id)
            connection.execute(text("UPDATE jobs SET models = '{colour,shape}'"))
            assert tasks.add_embedding_tasks(connection, job_id) == 1
        tasks.advance(worker, job_id)


@pytest.mark.parametrize("title", ["a\0b", "half a pair \ud83d"])
def test_titles_that_postgres_cannot_hold_are_kept_as_far_as_it_can(rows, make_source_result, title):
    rows.job()
    [claim] = claim_all(rows)
    assert rows.save(claim, store, make_source_result(1, "abc", title=title))
    assert rows.one("SELECT title FROM sources") in ("ab", "half a pair")


def test_a_job_that_was_deleted_while_its_video_was_cut_up_leaves_no_row(rows, make_source_result):
    rows.job()
    [claim] = claim_all(rows)
    rows.do("DELETE FROM jobs")
    assert rows.save(claim, store, make_source_result(3, "abc")) is False
    assert rows.one("SELECT count(*) FROM videos") == 0


def listed(*names: str) -> VideoList:
    return VideoList(
        tuple(ListedVideo(f"http://videos.example/{name}.mp4", f"Film {name}") for name in names), "A list"
    )


def save_list(rows, claim, videos: VideoList) -> None:
    with rows.database.transaction() as connection:
        assert tasks.succeed(connection, claim)
        store.save_list(connection, claim, store.load(connection, claim), videos)
        tasks.advance(connection, claim.job_id)


def test_a_list_becomes_its_videos_each_a_source_with_its_title(rows, make_source_result):
    job_id = rows.job()
    rows.do("UPDATE sources SET list_levels = 2, url = 'http://videos.example/list'")
    [claim] = claim_all(rows)
    save_list(rows, claim, listed("a", "b", "c"))
    assert rows.job_state(job_id) == "running"
    assert rows.all("SELECT title, expanded_into FROM sources WHERE id = :id", id=claim.source_id) == [("A list", 3)]
    children = rows.all(
        "SELECT url, title, host, list_levels, parent_id FROM sources WHERE parent_id IS NOT NULL ORDER BY position"
    )
    assert [tuple(child) for child in children] == [
        (f"http://videos.example/{name}.mp4", f"Film {name}", "videos.example", 1, claim.source_id) for name in "abc"
    ]
    claims = claim_all(rows)
    assert len(claims) == 3
    for number, child in enumerate(claims):
        assert rows.save(child, store, make_source_result(1, f"video {number}", title="its file.mp4"))
    assert len(rows.all("SELECT FROM sources WHERE title LIKE 'Film %'")) == 3, "the list's words say more"


def test_what_a_list_names_that_the_job_has_already_is_not_there_twice(rows):
    rows.job(sources=2)
    first, second = claim_all(rows)
    rows.do("UPDATE sources SET list_levels = 1")
    save_list(rows, first, listed("a", "b"))
    save_list(rows, second, listed("b", "c"))
    assert rows.one("SELECT count(*) FROM sources WHERE parent_id IS NOT NULL") == 3
    assert rows.all("SELECT expanded_into FROM sources WHERE parent_id IS NULL") == [(2,), (2,)]
    assert rows.one("SELECT count(DISTINCT position) = count(*) FROM sources")


def test_two_lists_that_end_at_one_instant_both_become_their_videos(rows):
    rows.job(sources=2)
    rows.do("UPDATE sources SET list_levels = 1")
    gate = threading.Barrier(2)

    def save(claim, videos) -> None:
        gate.wait()
        save_list(rows, claim, videos)

    videos = (listed(*(f"film-{i}" for i in range(100))), listed(*(f"film-{i}" for i in range(50, 150))))
    threads = [threading.Thread(target=save, args=pair) for pair in zip(claim_all(rows), videos, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows.one("SELECT count(*) FROM sources WHERE parent_id IS NOT NULL") == 150
    assert len(claim_all(rows)) == 150


def test_a_list_of_a_list_is_looked_into_no_deeper(rows):
    rows.job()
    rows.do("UPDATE sources SET list_levels = 2")
    for levels in (1, 0):
        [claim] = claim_all(rows)
        save_list(rows, claim, listed(f"inner {levels}"))
        assert rows.one("SELECT list_levels FROM sources ORDER BY position DESC LIMIT 1") == levels


def test_a_list_of_lists_brings_no_more_than_one_list_may(rows, monkeypatch):
    monkeypatch.setattr(store, "MAX_LISTED", 5)
    rows.job()
    rows.do("UPDATE sources SET list_levels = 2")
    [claim] = claim_all(rows)
    save_list(rows, claim, listed("inner a", "inner b"))
    first, second = claim_all(rows)
    save_list(rows, first, listed("a", "b", "c", "d"))
    assert rows.one("SELECT count(*) FROM sources WHERE parent_id IS NOT NULL") == 5
    assert rows.one(f"SELECT expanded_into FROM sources WHERE id = '{first.source_id}'") == 3

    with pytest.raises(PermanentError, match="already") as caught:
        save_list(rows, second, listed("e"))

    assert caught.value.kind is ErrorKind.PLAYLIST
    assert rows.one("SELECT count(*) FROM sources WHERE parent_id IS NOT NULL") == 5
