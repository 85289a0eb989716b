"""Idempotency keys: a request that is sent twice is done once, and answered the same (IETF httpapi draft)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql

from services.api.problems import Gone, invalid
from shared.tables import idempotency_keys

KEPT_FOR_H = 24


@dataclass(frozen=True)
class Reply:
    """What a write answers: status, where to look, and the body as plain JSON values."""

    status: int
    location: str | None
    body: dict[str, Any]


def fingerprint(method: str, path: str, body: bytes) -> str:
    """SHA-256 of what makes two requests the same one."""
    return hashlib.sha256(b"\0".join((method.encode(), path.encode(), body))).hexdigest()


def once(
    connection: Connection,
    project_id: str,
    key: str | None,
    request: str,
    act: Callable[[], Reply],
    is_there: Callable[[str], bool],
) -> Reply:
    """What `act` replies, or what it replied the first time under this key.

    request: the request's fingerprint. is_there: whether what has this id, that of a reply's body, is not deleted. The
    key is stored in the transaction of `act`. A second request under the same key waits for the first one to end.
    Raises `Invalid` when the key was used for another request, `Gone` when what was made then is deleted.
    """
    if key is None:
        return act()
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"idempotency {project_id} {key}"}
    )
    known = connection.execute(
        text(
            f"""
            SELECT fingerprint, status, location, body FROM idempotency_keys
            WHERE project_id = :project AND key = :key AND created_at > now() - interval '{KEPT_FOR_H} hours'"""
        ),
        {"project": project_id, "key": key},
    ).one_or_none()
    if known:
        if known.fingerprint != request:
            invalid("Idempotency-Key", "this key was used for another request; choose a new one for a new request")
        if not is_there(known.body["id"]):
            raise Gone(
                f"This was done before, under the same Idempotency-Key, and what it was about, {known.body['id']}, is "
                "deleted since. To do it again, choose a new key."
            )
        return Reply(known.status, known.location, known.body)
    reply = act()
    values = {"fingerprint": request, "status": reply.status, "location": reply.location, "body": reply.body}
    connection.execute(
        postgresql.insert(idempotency_keys)
        .values(project_id=project_id, key=key, **values)
        .on_conflict_do_update(index_elements=["project_id", "key"], set_={**values, "created_at": text("now()")})
    )
    return reply
