"""The way to Redis survives what ends a worker with kombu's own: a connection that is lost in mid-task."""

from __future__ import annotations

import pytest

from shared import broker
from shared.celery_app import make_celery
from shared.settings import Settings


def connection(url: str = "redis://127.0.0.1:1/0") -> broker.Connection:
    return make_celery(Settings(redis_url=url, own_models={})).connection_for_read()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0"])
def test_celery_uses_it(url):
    made = connection(url)
    assert isinstance(made, broker.Connection)
    assert isinstance(made.transport, broker.Transport)
    assert made.transport.Channel is broker.Channel
    assert url.split(":")[0] in made.as_uri()


class Enough(Exception):
    """Ends a test that would go on for ever."""


def test_a_broker_that_is_away_is_looked_for_every_few_seconds(monkeypatch):
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda seconds: None)
    waits = []

    def note(error, interval_s):
        waits.append(interval_s)
        if len(waits) == 8:
            raise Enough

    with pytest.raises(Enough):
        connection().ensure_connection(note, None)
    assert waits == [1, 2, 3, 4, 5, 5, 5, 5]


def test_an_acknowledgement_on_a_lost_connection_is_taken_for_done(redis_server):
    made = connection(redis_server.url)
    channel = made.channel()
    channel.close()
    channel.qos.ack("tag")  # kombu's own raises AttributeError here
    other = made.channel()
    made.close()
    other.qos.ack("tag")


def test_messages_are_not_put_back_when_a_connection_ends(redis_url):
    made = connection(redis_url)
    channel = made.channel()
    channel.queue_declare("keyframes")
    producer = made.Producer(channel)
    producer.publish({"v": 1}, routing_key="keyframes")
    message = channel.basic_get("keyframes")
    assert message is not None
    channel.close()
    assert connection(redis_url).channel()._size("keyframes") == 0
    made.close()
