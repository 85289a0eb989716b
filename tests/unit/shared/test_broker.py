"""The way to Redis survives what ends a worker with kombu's own: a connection that is lost in mid-task."""

from __future__ import annotations

import pytest
from celery.worker import state
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared import broker
from shared.celery_app import make_celery
from shared.settings import Settings

PROPERTIES = {"delivery_tag": "tag", "delivery_info": {"exchange": "keyframes", "routing_key": "keyframes"}}


def connection(url: str = "redis://127.0.0.1:1/0") -> broker.Connection:
    return make_celery(Settings(redis_url=url, own_models={})).connection_for_read()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0"])
def test_celery_uses_it(url):
    made = connection(url)
    assert isinstance(made, broker.Connection)
    assert isinstance(made.transport, broker.Transport)
    assert made.transport.Channel is broker.Channel
    assert url.split(":")[0] in made.as_uri()


def test_an_acknowledgement_on_a_lost_connection_is_taken_for_done(redis_server):
    made = connection(redis_server.url)
    channel = made.channel()
    channel.close()
    channel.qos.ack("tag")  # kombu's own raises AttributeError here
    other = made.channel()
    made.close()
    other.qos.ack("tag")


def test_an_acknowledgement_that_fails_frees_its_place_and_drops_the_connection_that_reads(redis_url):
    made = connection(redis_url)
    channel = made.channel()
    channel.qos.prefetch_count = 1
    channel.client.connection = channel.client.connection_pool.get_connection()
    channel.qos.append(channel.Message({"body": "", "properties": PROPERTIES}, channel), "tag")
    assert not channel.qos.can_consume()
    channel.pool.disconnect()
    away = ConnectionPool(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    channel._pool, kept = away, channel.client.connection
    channel.qos.ack("tag")
    assert channel.qos.can_consume()
    assert kept._sock is None
    away.close()
    made.close()


@pytest.mark.parametrize(("should_stop", "put_back"), [(None, 0), (0, 1)])
def test_messages_are_put_back_when_the_worker_stops_and_not_when_a_connection_ends(
    redis_url, monkeypatch, should_stop, put_back
):
    made = connection(redis_url)
    channel = made.channel()
    channel.queue_declare("keyframes")
    producer = made.Producer(channel)
    producer.publish({"v": 1}, routing_key="keyframes")
    message = channel.basic_get("keyframes")
    assert message is not None
    monkeypatch.setattr(state, "should_stop", should_stop)
    channel.close()
    assert connection(redis_url).channel()._size("keyframes") == put_back
    made.close()


def test_a_worker_stops_well_though_messages_cannot_be_put_back(redis_url, monkeypatch, caplog):
    made = connection(redis_url)
    channel = made.channel()
    channel.qos.append(channel.Message({"body": "", "properties": PROPERTIES}, channel), "tag")
    monkeypatch.setattr(state, "should_stop", 0)
    monkeypatch.setattr(channel, "_connparams", lambda *_, **__: {"host": "127.0.0.1", "port": 1})
    channel.close()
    made.close()
    assert "could not put messages back" in caplog.text
