"""Every process: what it refuses, what it waits for, how it lives and ends."""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import requests
from redis import Redis

from services.api.server import THREADS, WORKERS
from services.dispatcher.main import Wake
from services.local.redis import EmbeddedRedis
from shared.celery_app import make_celery, send
from shared.liveness import TOUCH_EVERY_S
from shared.ownership import MARK
from shared.pipeline import Queue
from shared.settings import Settings
from shared.startup import EXIT_REFUSED
from shared.worker_health import EXIT_STALLED

pytestmark = pytest.mark.integration

WORKER, DISPATCHER = "services.clustering.worker", "services.dispatcher.main"
QUEUE = Queue.CLUSTERING


@pytest.fixture
def redis(redis_url) -> Iterator[Redis]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def celery(redis_url):
    app = make_celery(Settings(redis_url=redis_url, own_models={}))
    yield app
    app.close()


def reads(redis: Redis) -> bool:
    """Whether a worker waits for messages."""
    return any(c["name"] == f"reelmap-{QUEUE}" and "b" in c["flags"] for c in redis.client_list())


def wait_for_touch(started) -> None:
    """Return when the process has touched its file once more."""
    before = started.alive_file.stat().st_mtime
    started.wait_for(lambda: started.alive_file.stat().st_mtime > before, for_s=TOUCH_EVERY_S + 3)


@pytest.mark.parametrize("module", [WORKER, DISPATCHER])
def test_a_redis_that_would_throw_messages_away_is_refused(start, redis, redis_url, database_url, module):
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        started = start(module, redis_url=redis_url, database_url=database_url)
        assert started.process.wait(30) == EXIT_REFUSED
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
    assert "Redis has maxmemory-policy allkeys-lru" in started.said
    assert "CONFIG SET maxmemory-policy noeviction" in started.said
    assert "Traceback" not in started.said


def test_a_wrong_setting_is_one_line(start):
    started = start(WORKER, lease_s="soon")
    assert started.process.wait(30) == EXIT_REFUSED
    assert started.said == "REELMAP_LEASE_S is 'soon'; expected a number\n"


def test_servers_and_the_migration_are_waited_for(start, guard, postgres_server, tmp_path):
    """And a process that waits lives."""
    from shared.db import migrate

    broker = EmbeddedRedis(tmp_path / "redis", guard, durable=False)
    broker.start()
    broker.stop()
    database_url = postgres_server.create_database("not_migrated")
    try:
        started = start(WORKER, redis_url=broker.url, database_url=database_url)
        started.wait_for_words("waiting for Redis: ")
        assert started.alive_file.exists()
        broker.start()
        started.wait_for_words("waiting for the database: it has schema none, and this version needs ")
        migrate(database_url)
        started.wait_for_words("event=worker_started")
        assert started.stop() == 0
    finally:
        broker.stop()
        postgres_server.drop_database("not_migrated")


def test_a_message_that_comes_while_a_worker_stops_is_left_to_others(start, redis, redis_url, database_url, celery):
    """It waits in Redis with its read pending, and is given the next message whether it wants it or not."""
    started = start(WORKER, redis_url=redis_url, database_url=database_url)
    started.wait_for(lambda: reads(redis))
    started.process.send_signal(signal.SIGTERM)
    sent = 0
    while started.process.poll() is None:
        send(celery, QUEUE, str(uuid.uuid4()))
        sent += 1
        time.sleep(0.02)
    assert started.process.returncode == 0
    assert (redis.llen(QUEUE.value), redis.hlen("unacked")) == (sent, 0)


@pytest.mark.parametrize("module", [WORKER, DISPATCHER])
def test_asked_to_stop_while_it_waits_for_servers_it_ends_well(start, database_url, module):
    started = start(module, redis_url="redis://127.0.0.1:9/0", database_url=database_url)
    started.wait_for_words("waiting for Redis: ")
    assert started.stop() == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def answers(port: int, *, within_s: float = 5) -> bool:
    with suppress(requests.ConnectionError, requests.Timeout), requests.Session() as session:
        session.trust_env = False
        return session.get(f"http://127.0.0.1:{port}/livez", timeout=within_s).ok
    return False


def test_the_api_ends_well(start, database_url):
    port = free_port()
    started = start("services.api.server", database_url=database_url, api_port=port, access="open")
    started.wait_for(lambda: answers(port))
    assert started.stop() == 0
    assert "Traceback" not in started.said


def test_an_api_whose_threads_are_all_held_takes_connections_still(start, database_url):
    """So that a probe of the port finds it alive while it answers nobody, and those who hold it are not cut off."""
    port = free_port()
    started = start("services.api.server", database_url=database_url, api_port=port, access="open")
    started.wait_for(lambda: answers(port))
    with ExitStack() as slow:
        for _ in range(3 * WORKERS * THREADS):  # the kernel deals them out unevenly
            client = slow.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            client.sendall(b"GET /livez HTTP/1.1\r\n")
        started.wait_for(lambda: not answers(port, within_s=0.5))
        socket.create_connection(("127.0.0.1", port), timeout=3).close()
    started.wait_for(lambda: answers(port))
    assert started.stop() == 0


def test_a_worker_lives_on_while_redis_is_away_and_ends_well(start, guard, tmp_path, database_url):
    broker = EmbeddedRedis(tmp_path / "redis", guard, durable=False)
    broker.start()
    started = start(WORKER, redis_url=broker.url, database_url=database_url)
    with Redis.from_url(broker.url, decode_responses=True) as redis:
        started.wait_for(lambda: reads(redis))
    wait_for_touch(started)
    broker.stop()
    started.wait_for_words("the broker is away, trying again in ")
    wait_for_touch(started)
    broker.start()
    with Redis.from_url(broker.url, decode_responses=True) as redis:
        started.wait_for(lambda: reads(redis), for_s=15)
    asked_at = time.monotonic()
    assert started.stop() == 0
    assert time.monotonic() - asked_at < 5
    assert not started.alive_file.exists()
    assert "Traceback" not in started.said
    broker.stop()


def test_a_worker_that_has_become_deaf_ends_itself(start, celery, redis, redis_url, database_url):
    started = start(WORKER, redis_url=redis_url, database_url=database_url, stall_after_s=1)
    started.wait_for(lambda: reads(redis))
    assert celery.control.cancel_consumer(QUEUE.value, reply=True, limit=1, timeout=20)
    started.wait_for(lambda: not reads(redis))
    send(celery, QUEUE, "11111111-1111-1111-1111-111111111111")
    assert started.process.wait(30) == EXIT_STALLED
    assert "event=stalled" in started.said
    assert not started.alive_file.exists()
    assert redis.llen(QUEUE.value) == 1, "left for a worker that hears"


def test_messages_of_other_versions_do_no_harm(start, celery, redis, redis_url, database_url):
    """A newer sender's are dropped with a warning, as if they were lost; fields that we do not know are left alone."""
    [newer, wider] = [f"{n}1111111-1111-1111-1111-111111111111" for n in (1, 2)]
    for body in ({"v": 2, "task": {"id": newer}}, {"v": 1, "task_id": wider, "priority": "high"}, {"v": 1}):
        celery.send_task(QUEUE.task_name, kwargs=body, queue=QUEUE.value, retry=False, ignore_result=True)
    started = start(WORKER, redis_url=redis_url, database_url=database_url)
    started.wait_for(lambda: started.said.count("event=unreadable_message") == 2)
    started.wait_for_words(f"event=nothing_to_claim task_ids={wider}")
    started.wait_for(lambda: not redis.exists("unacked", QUEUE.value))
    assert "dropping a message of version 2; this worker reads version 1" in started.said
    assert started.stop() == 0
    assert " ERROR " not in started.said and "Traceback" not in started.said


def test_only_the_dispatcher_that_leads_collects(start, rows, redis_url, database_url, tmp_path):
    wake = Wake(database_url)
    assert wake.try_lead()
    blobs = tmp_path / "blobs"
    started = start(DISPATCHER, redis_url=redis_url, database_url=database_url)
    asking = """SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'reelmap-dispatcher-wake' AND datname = current_database()"""
    started.wait_for(lambda: rows.one(asking) == 2)
    assert not (blobs / MARK).exists()
    wake.close()
    started.wait_for((blobs / MARK).exists)
    assert started.stop() == 0


def test_a_dispatcher_leaves_the_blobs_of_another_database_alone_and_says_so(start, redis_url, database_url, tmp_path):
    blobs = tmp_path / "blobs"
    stray = blobs / "pictures" / "stray"
    stray.parent.mkdir(parents=True)
    stray.touch()
    os.utime(stray, (0, 0))
    started = start(DISPATCHER, redis_url=redis_url, database_url=database_url)
    started.wait_for_words("event=not_ours")
    assert "Rows of this database name only 0 of 1 pictures and uploads" in started.said
    assert started.stop() == 0
    assert stray.exists() and not (blobs / MARK).exists()
