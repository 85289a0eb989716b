"""Asks the database about keys, and believes its answer for a moment."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from sqlalchemy import Connection

from shared import keys
from shared.db import Database
from shared.keys import Key

#: So long a key may go on after it was revoked, in whatever process. A page asks for a hundred pictures at once.
BELIEVED_FOR_S = 2.0
_MAX_KEPT = 1000


class KeyChecks:
    """Who a key belongs to. Only what was found is kept: a key that was just made works at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[str, tuple[float, Key]] = {}

    def by_text(self, given: str) -> Key | None:
        """The key whose text this is, unless it is revoked."""
        if not keys.looks_like_a_key(given):
            return None
        return self._ask(hashlib.sha256(given.encode()).hexdigest(), lambda c: keys.authenticate(c, given))

    def by_id(self, key_id: str) -> Key | None:
        """The key of that id, unless it is revoked."""
        return self._ask(key_id, lambda connection: keys.usable_key(connection, key_id))

    def _ask(self, name: str, ask: Callable[[Connection], Key | None]) -> Key | None:
        kept = self._kept.get(name)
        if kept is not None and time.monotonic() - kept[0] < BELIEVED_FOR_S:
            return kept[1]
        asked_at = time.monotonic()
        with self._database.transaction() as connection:
            key = ask(connection)
        if key is None:
            self._kept.pop(name, None)
            return None
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        self._kept[name] = (asked_at, key)
        return key
