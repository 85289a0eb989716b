"""Celery's way to Redis, for messages that are nudges: what kombu does for those that must not be lost is left out.

Each difference is there because kombu 5.7 ends or deafens a worker without it, which `make faults` shows (F5b, F6b).
What a stopping worker was still given is put back all the same: only that saves a task from waiting to be sent again.
Named in `shared.celery_app`; nothing else uses it.
"""

from __future__ import annotations

import logging

from celery.app.amqp import AMQP
from celery.worker import state
from kombu.connection import Connection as KombuConnection
from kombu.transport import redis, virtual

logger = logging.getLogger(__name__)


class QoS(redis.QoS):
    """Takes a message that cannot be acknowledged for acknowledged: it comes again, and finds nothing to claim."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge one message, whatever became of its connection while its task ran."""
        transport = self.channel.connection
        if transport is None or transport.client is None:
            return  # closed meanwhile; kombu's AttributeError would end the worker
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except self.channel.connection_errors as error:
            logger.warning("could not acknowledge a message: %s", error, extra={"event": "not_acknowledged"})
            # The message's place becomes free. Kombu would keep it, and a worker without places never reads again.
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            self._distrust_the_reading_connection()

    def restore_unacked_once(self, stderr: object = None) -> None:
        """Put the messages back that a stopping worker was still given: their tasks would wait to be sent again."""
        try:
            super().restore_unacked_once(stderr)  # type: ignore[no-untyped-call]
        except self.channel.connection_errors as error:
            logger.warning("could not put messages back: %s", error, extra={"event": "not_put_back"})

    def _distrust_the_reading_connection(self) -> None:
        """Read over a new connection: the old one is as dead, and would be waited for."""
        connection = getattr(self.channel.client, "connection", None)
        if connection is not None and not self.channel._in_poll:
            connection.disconnect()


class Channel(redis.Channel):
    """Puts messages back when the worker stops, and not when a connection ends in the middle of its work.

    Those of running tasks need not come again: the lease brings back what a worker lost.
    """

    QoS = QoS

    @property
    def do_restore(self) -> bool:  # type: ignore[override]
        """Whether Celery was asked to stop; what still runs has then ended before the connection does."""
        return state.should_stop is not None


class Transport(redis.Transport):
    """Redis with our channels."""

    Channel = Channel


class Connection(KombuConnection):
    """Uses our transport."""

    def get_transport_cls(self) -> type[Transport]:
        """Redis, whatever the URL's scheme says of encryption."""
        return Transport


class Amqp(AMQP):  # type: ignore[misc]
    """Makes our connections."""

    Connection = Connection
    BrokerConnection = Connection
