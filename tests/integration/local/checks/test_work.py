"""What is said of the work: each thing goes wrong in the database or in Redis, and is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from services.dispatcher.main import Wake
from services.local.checks import servers, work
from services.local.checks.check import Subject, Verdict
from shared.blob_stores import open_blobs
from shared.celery_app import worker_name
from shared.pipeline import Queue
from shared.schema import newest_revision
from shared.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def redis(redis_url) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def subject(database, redis, tmp_path) -> Subject:
    return Subject(Settings(own_models={}, blobs_folder=tmp_path), None, database, redis, {})


@pytest.fixture
def reads_keyframes(redis_url) -> Iterator[None]:
    """Somebody is connected as a keyframes worker is."""
    with Redis.from_url(redis_url, client_name=worker_name(Queue.KEYFRAMES)) as client:
        client.ping()
        yield


def test_nothing_to_do_is_good(subject):
    assert work.stuck_tasks(subject) == (Verdict.GOOD, "Nothing waits.")
    assert work.messages(subject)[0] is Verdict.GOOD
    assert work.blobs(subject) == (Verdict.GOOD, "There are no pictures yet.")
    assert work.workers(subject)[0] is Verdict.GOOD


def test_a_dispatcher_that_works_is_seen_and_one_that_does_not_is_missed(subject, database_url):
    verdict, says = work.dispatcher(subject)
    assert (verdict, says.startswith("No dispatcher works")) == (Verdict.BAD, True)
    wake = Wake(database_url)
    assert wake.try_lead()
    assert work.dispatcher(subject)[0] is Verdict.GOOD
    wake.close()


def test_a_queue_with_work_that_nobody_reads_is_named(subject, rows):
    rows.job(sources=3)
    verdict, says = work.workers(subject)
    assert verdict is Verdict.BAD
    assert says.startswith("No worker reads keyframes (3 due).")


def test_a_worker_that_is_connected_is_seen(subject, rows, reads_keyframes):
    rows.job(sources=3)
    assert work.workers(subject) == (
        Verdict.GOOD,
        "Connected: keyframes; not embedding, query, clustering, exports, where nothing is due.",
    )


def test_a_queue_that_stands_still_is_named(subject, rows):
    rows.job(sources=2)
    assert work.stuck_tasks(subject) == (Verdict.GOOD, "Due now: 2 in keyframes.")
    rows.do("UPDATE tasks SET run_at = now() - interval '25 minutes'")
    verdict, says = work.stuck_tasks(subject)
    assert verdict is Verdict.BAD
    assert "2 tasks wait in keyframes, the oldest for 25 min, and none was claimed for 25 min" in says
    rows.claim(rows.task_ids("keyframes")[0])
    assert work.stuck_tasks(subject)[0] is Verdict.GOOD
    rows.do("UPDATE tasks SET claimed_at = now() - interval '50 minutes' WHERE state = 'running'")
    assert work.stuck_tasks(subject)[0] is Verdict.GOOD, "a long task is no standstill"


def test_tasks_whose_worker_is_gone_are_named(subject, rows):
    rows.job()
    rows.claim(rows.task_ids("keyframes")[0], lease_s=-60)
    verdict, says = work.stuck_tasks(subject)
    assert verdict is Verdict.BAD
    assert "1 running tasks of keyframes have lost their worker and were not taken back" in says


def test_messages_that_are_gone_and_not_sent_again_are_named(subject, rows, redis):
    rows.job(sources=2)
    rows.do("UPDATE tasks SET sent_at = now() - interval '10 minutes'")
    verdict, says = work.messages(subject)
    assert verdict is Verdict.BAD
    assert "their messages are gone, and they are not sent again: 2 in keyframes" in says
    redis.rpush("keyframes", "1", "2")
    assert work.messages(subject) == (Verdict.GOOD, "2 messages wait for 2 sent tasks.")


def test_pictures_that_are_gone_are_named(subject, rows, tmp_path):
    rows.job()
    [claim] = rows.claim(rows.task_ids("keyframes")[0])
    rows.cut_up(claim, key_frames_=3)
    names = [name for row in rows.all("SELECT blob, small_blob FROM key_frames") for name in row]
    for name in names:
        Path(tmp_path, name).parent.mkdir(parents=True, exist_ok=True)
        Path(tmp_path, name).touch()
    assert work.blobs(subject) == (Verdict.GOOD, "All of the 6 pictures and uploads that were looked for are there.")
    Path(tmp_path, names[0]).unlink()
    verdict, says = work.blobs(subject)
    assert verdict is Verdict.BAD
    assert f"1 of 6 pictures and uploads that were looked for are not in {tmp_path}, such as {names[0]}." in says


def test_pictures_in_a_bucket_are_looked_for_there(subject, rows, object_store, tmp_path):
    subject = replace(subject, settings=Settings(own_models={}, **object_store.new_bucket("reelmap/")))
    rows.job()
    [claim] = rows.claim(rows.task_ids("keyframes")[0])
    rows.cut_up(claim, key_frames_=3)
    names = [name for row in rows.all("SELECT blob, small_blob FROM key_frames") for name in row]
    (tmp_path / "picture").touch()
    blobs = open_blobs(subject.settings)
    blobs.put_all({name: tmp_path / "picture" for name in names})
    assert work.blobs(subject) == (Verdict.GOOD, "All of the 6 pictures and uploads that were looked for are there.")
    blobs.delete(names[:2])
    verdict, says = work.blobs(subject)
    assert verdict is Verdict.BAD
    assert (
        f"2 of 6 pictures and uploads that were looked for are not in the bucket {subject.settings.blobs_bucket}"
        in says
    )
    gone = replace(subject, settings=replace(subject.settings, blobs_bucket="no-such-bucket"))
    verdict, says = work.blobs(gone)
    assert verdict is Verdict.BAD and "there is no such bucket" in says


def test_the_real_servers_are_good(subject):
    for look in (servers.postgres, servers.clocks, servers.redis):
        verdict, says = look(subject)
        assert verdict is Verdict.GOOD, says


def test_schemas(subject, rows, monkeypatch):
    assert servers.schema(subject) == (Verdict.GOOD, f"Schema {newest_revision()} is the newest.")
    rows.do("UPDATE alembic_version SET version_num = 'of tomorrow'")
    assert "which a newer version made" in servers.schema(subject)[1]
    rows.do("DELETE FROM alembic_version")
    verdict, says = servers.schema(subject)
    assert verdict is Verdict.BAD
    assert f"The database has schema none and this version needs {newest_revision()}. Migrate it" in says
