"""Celery's way to Redis, for messages that are nudges: what kombu does for those that must not be lost is left out.

Named in `shared.celery_app`; nothing else uses it.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection as KombuConnection
from kombu.transport import redis

#: Waits between two tries to reach a broker that is away: the first, what each next one adds, the longest. Celery's own
#: grow to half a minute, in which workers stand still although Redis is back.
FIRST_WAIT_S, ADDED_WAIT_S, LONGEST_WAIT_S = 1, 1, 5


class QoS(redis.QoS):
    """Takes a message whose connection is gone for acknowledged.

    A task outlives its connection, and at the task's end kombu 5.7 would end the worker (AttributeError, for there is
    nothing to say so over). The message comes again after the visibility timeout and finds nothing to claim.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge one message."""
        transport = self.channel.connection
        if transport is not None and transport.client is not None:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]


class Channel(redis.Channel):
    """Does not put messages back when a connection ends.

    The lease brings back what a worker lost. And kombu 5.7 ends the worker over it: it loses Redis in mid-task, fails
    to put the message back, closes the channel once more, and finds that there is no connection (AttributeError).
    """

    QoS = QoS
    do_restore = False


class Transport(redis.Transport):
    """Redis with our channels."""

    Channel = Channel


class Connection(KombuConnection):
    """Uses our transport, and looks often for a broker that is away."""

    def get_transport_cls(self) -> type[Transport]:
        """Redis, whatever the URL's scheme says of encryption."""
        return Transport

    def ensure_connection(self, *args: Any, **options: Any) -> Connection:
        """Connect; try again as long as the broker is away, unless `max_retries` says otherwise."""
        waits = {"interval_start": FIRST_WAIT_S, "interval_step": ADDED_WAIT_S, "interval_max": LONGEST_WAIT_S}
        super().ensure_connection(*args, **{**waits, **options})  # type: ignore[no-untyped-call]
        return self


class Amqp(AMQP):  # type: ignore[misc]
    """Makes our connections."""

    Connection = Connection
    BrokerConnection = Connection
