"""Does a write in one transaction, once per idempotency key, and answers 202 with where to look."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, make_response, request
from sqlalchemy import Connection, Table, select

from services.api.commands import idempotency
from services.api.commands.idempotency import Reply
from services.api.context import current_project_id, write
from shared import failpoints

#: When to look for the first time.
RETRY_AFTER_S = 2


def accept(act: Callable[[Connection], Reply], key: str | None, table: Table) -> Response:
    """The answer to what `act` did, now or the first time that this key was used.

    table: of what the reply's body describes.
    """
    fingerprint = idempotency.fingerprint(request.method, request.path, request.get_data())

    def do(connection: Connection) -> Reply:
        def is_there(row_id: str) -> bool:
            return connection.execute(select(table.c.id).where(table.c.id == row_id)).first() is not None

        reply = idempotency.once(connection, current_project_id(), key, fingerprint, lambda: act(connection), is_there)
        failpoints.reach("api.before_commit")
        return reply

    reply = write(do)
    failpoints.reach("api.after_commit")
    return make_response(
        reply.body, reply.status, {"Location": reply.location or "", "Retry-After": str(RETRY_AFTER_S)}
    )
