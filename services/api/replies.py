"""Does a write in one transaction, once per idempotency key, and answers 202 with where to look."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, make_response, request
from sqlalchemy import Connection

from services.api.commands import idempotency
from services.api.commands.idempotency import Reply
from services.api.context import current_project_id, write
from shared import failpoints

#: When to look for the first time.
RETRY_AFTER_S = 2


def accept(act: Callable[[Connection], Reply], key: str | None = None) -> Response:
    """The answer to what `act` did, now or the first time that this key was used."""
    fingerprint = idempotency.fingerprint(request.method, request.path, request.get_data())

    def do(connection: Connection) -> Reply:
        reply = idempotency.once(connection, current_project_id(), key, fingerprint, lambda: act(connection))
        failpoints.reach("api.before_commit")
        return reply

    reply = write(do)
    failpoints.reach("api.after_commit")
    return make_response(
        reply.body, reply.status, {"Location": reply.location or "", "Retry-After": str(RETRY_AFTER_S)}
    )
