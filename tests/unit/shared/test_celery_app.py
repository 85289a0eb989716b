"""Every queue setting is what the rules say."""

from __future__ import annotations

import pytest

from shared.celery_app import hard_limit_s, make_celery, visibility_timeout_s
from shared.pipeline import Queue
from shared.settings import Settings

SETTINGS = Settings(redis_url="redis://127.0.0.1:1/0", own_models={})


@pytest.fixture
def conf():
    return make_celery(SETTINGS).conf


def test_redis_never_redelivers_a_task_that_may_still_run():
    assert visibility_timeout_s(SETTINGS) > 2 * max(hard_limit_s(SETTINGS, queue) for queue in Queue)


def test_a_lease_outlives_a_missed_renewal():
    assert SETTINGS.heartbeat_s < SETTINGS.lease_s / 2


def test_the_names_of_a_process_are_seen_in_redis():
    assert make_celery(SETTINGS, "reelmap-query").conf.broker_transport_options["client_name"] == "reelmap-query"


def test_a_worker_gives_up_before_celery_kills_it():
    for queue in Queue:
        assert hard_limit_s(SETTINGS, queue) == SETTINGS.deadline_s(queue.stage) + 60
    assert hard_limit_s(SETTINGS, Queue.QUERY) == SETTINGS.embedding_deadline_s + 60


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_acks_late", True),
        ("worker_prefetch_multiplier", 1),
        ("task_reject_on_worker_lost", False),
        ("task_retry_on_worker_lost", False),
        ("task_acks_on_failure", True),
        ("task_acks_on_timeout", True),
        ("result_backend", None),
        ("task_ignore_result", True),
        ("task_track_started", False),
        ("task_store_errors_even_if_ignored", False),
        ("task_create_missing_queues", False),
        ("worker_eta_task_limit", 10),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("broker_connection_retry_on_startup", True),
        ("broker_connection_max_retries", None),
        ("task_serializer", "json"),
        ("accept_content", ["json"]),
        ("timezone", "UTC"),
        ("worker_hijack_root_logger", False),
        ("worker_send_task_events", False),
        ("worker_pool", "prefork"),
        ("worker_pool_start_method", "fork"),
        ("worker_proc_alive_timeout", 300),
    ],
)
def test_setting(conf, name, value):
    assert conf[name] == value


def test_every_wait_on_the_broker_is_bounded(conf):
    options = conf.broker_transport_options
    assert options["socket_timeout"] == options["socket_connect_timeout"] == options["health_check_interval"] == 5
    assert options["retry_on_timeout"] is False and options["socket_keepalive"] is True
    assert options["max_retries"] * options["interval_max"] <= 5
    assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] <= 30
    assert options["visibility_timeout"] == conf.visibility_timeout == visibility_timeout_s(SETTINGS)


def test_queues_share_no_exchange(conf):
    assert sorted(q.name for q in conf.task_queues) == sorted(queue.value for queue in Queue)
    assert all(q.exchange.name == q.name == q.routing_key for q in conf.task_queues)
