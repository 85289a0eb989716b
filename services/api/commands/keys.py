"""Makes and revokes keys of a project."""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from services.api.problems import Conflict, NotFound
from services.api.queries.keys import key_answer
from services.api.schemas.answers import NewKey
from services.api.schemas.requests import KeyRequest
from shared import keys

logger = logging.getLogger(__name__)


def add_key(connection: Connection, project_id: str, request: KeyRequest) -> NewKey:
    """Make a key. Raises `Conflict` when a usable one has the name."""
    try:
        key, text = keys.add_key(connection, project_id, request.name, request.role)
    except keys.NameTaken as error:
        raise Conflict(error.message, [("name", error.message)]) from None
    logger.info("made the key %r, %s", key.name, key.role, extra={"event": "key_made", "key_id": key.id})
    return NewKey(**dict(key_answer(key)), key=text)


def revoke_key(connection: Connection, project_id: str, key_id: str) -> None:
    """Make a key useless for good. Raises `NotFound`."""
    if not keys.revoke_key(connection, key_id, project_id):
        raise NotFound(f"There is no key {key_id}.", "key_id")
    logger.info("revoked a key", extra={"event": "key_revoked", "key_id": key_id})
