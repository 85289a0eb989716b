"""The keys of a project."""

from __future__ import annotations

from sqlalchemy import Connection

from services.api import cursors
from services.api.cursors import Page, cut
from services.api.schemas.answers import Key
from shared import keys


def list_keys(connection: Connection, project_id: str, *, limit: int, cursor: str | None = None) -> Page[Key]:
    """The project's keys, revoked ones too, newest first. Raises `Invalid` for a wrong cursor."""
    before = None
    if cursor:
        created_at, key_id = cursors.decode(cursor, cursors.time, cursors.identifier)
        before = (created_at, key_id)
    found = keys.list_keys(connection, project_id, before=before, limit=limit + 1)
    kept, next_cursor = cut(found, limit, lambda key: (key.created_at, key.id))
    return Page([key_answer(key) for key in kept], next_cursor)


def key_answer(key: keys.Key) -> Key:
    """A key as the API shows it."""
    return Key.model_validate(key, from_attributes=True)
