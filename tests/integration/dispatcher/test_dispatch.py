"""One turn of the dispatcher, on real Postgres and Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from redis import Redis

from services.dispatcher import main
from services.dispatcher.dispatch import EPOCH_KEY, Dispatcher
from shared import tasks
from shared.celery_app import make_celery, send
from shared.pipeline import Queue
from shared.settings import Settings


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def dispatcher(database, redis, redis_url) -> Iterator[Dispatcher]:
    app = make_celery(Settings(redis_url=redis_url, own_models={}))
    yield Dispatcher(
        database=database,
        redis=redis,
        send=lambda queue, task_id: send(app, queue, task_id),
        sent_window=500,
        fetches_per_host=4,
        resend_after_s=60,
    )
    app.close()


def test_a_due_task_is_sent_once(rows, dispatcher, redis):
    rows.job(sources=3)
    assert dispatcher.turn() == 3
    assert dispatcher.turn() == 0
    assert redis.llen("keyframes") == 3
    assert rows.one("SELECT count(*) FROM tasks WHERE sent_at IS NOT NULL") == 3


def test_a_message_is_small_and_names_only_the_task(rows, dispatcher, redis):
    import base64
    import json

    rows.job()
    [task_id] = rows.task_ids("keyframes")
    dispatcher.turn()
    body = json.loads(base64.b64decode(json.loads(redis.lindex("keyframes", 0))["body"]))
    assert body[1] == {"v": 1, "task_id": task_id}


def test_an_emptied_redis_costs_one_turn(rows, dispatcher, redis):
    rows.job(sources=3)
    dispatcher.turn()
    rows.claim(rows.task_ids("keyframes")[0])
    redis.flushall()
    assert dispatcher.turn() == 2, "the running task is not sent again"
    assert redis.llen("keyframes") == 2


def test_a_lost_message_is_sent_again_when_its_queue_stays_empty(rows, dispatcher, redis):
    rows.job()
    dispatcher.resend_after_s = 0.3
    dispatcher.turn()
    redis.delete("keyframes")
    assert dispatcher.turn() == 0, "not at once: a worker may have just taken it"
    time.sleep(0.35)
    assert dispatcher.turn() == 1


def test_a_message_in_a_queue_that_nobody_reads_is_not_sent_again(rows, dispatcher, redis):
    rows.job()
    dispatcher.resend_after_s = 0.2
    dispatcher.turn()
    time.sleep(0.3)
    assert dispatcher.turn() == 0
    assert redis.llen("keyframes") == 1


def test_a_crash_between_sending_and_stamping_only_doubles_a_message(rows, dispatcher, redis):
    rows.job()
    [task_id] = rows.task_ids("keyframes")
    dispatcher.send(Queue.KEYFRAMES, task_id)
    dispatcher.turn()
    assert redis.llen("keyframes") == 2
    assert [len(rows.claim(task_id)) for _ in range(2)] == [1, 0]


def test_expired_leases_are_taken_back_and_sent(rows, dispatcher):
    rows.job()
    dispatcher.turn()
    rows.claim(*rows.task_ids("keyframes"), lease_s=-1)
    assert dispatcher.turn() == 1


def test_an_emptied_broker_is_noticed_also_when_the_database_was_away_just_then(
    rows, dispatcher, redis, database, monkeypatch
):
    rows.job()
    assert dispatcher.turn() == 1
    redis.flushall()
    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", _away)
        with pytest.raises(ConnectionError):
            dispatcher.turn()
    assert dispatcher.turn() == 1


def _away():
    raise ConnectionError("the database is away")


def test_the_epoch_key_is_kept(dispatcher, redis):
    dispatcher.turn()
    epoch = redis.get(EPOCH_KEY)
    dispatcher.turn()
    assert epoch and redis.get(EPOCH_KEY) == epoch


def test_two_dispatcher_processes_take_turns_and_a_notification_wakes_the_one(rows, database_url, redis_url, tmp_path):
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        blobs_folder=tmp_path,
        own_models={},
        dispatch_interval_s=30,  # so that only the notification can explain a fast send
    )
    stop = threading.Event()
    threads = [threading.Thread(target=main.run, args=(settings, stop.is_set)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        rows.job()
        until = time.monotonic() + 5
        while time.monotonic() < until and not rows.one("SELECT count(*) FROM tasks WHERE sent_at IS NOT NULL"):
            time.sleep(0.05)
        assert rows.one("SELECT count(*) FROM tasks WHERE sent_at IS NOT NULL") == 1
        with Redis.from_url(redis_url) as redis:
            assert redis.llen("keyframes") == 1
    finally:
        stop.set()
        with rows.database.transaction() as connection:
            tasks.notify_due(connection)
        for thread in threads:
            thread.join(10)
