"""Opaque cursors: where the next page of a list begins, as the sort key of the last row of this one."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from services.api.problems import invalid

T = TypeVar("T")

DEFAULT_LIMIT, MAX_LIMIT = 50, 500


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list, and the cursor of the next ones (None: these are the last)."""

    items: list[T]
    next_cursor: str | None


def cut(rows: Sequence[Any], limit: int, key: Callable[[Any], Sequence[Any]]) -> tuple[Sequence[Any], str | None]:
    """The first `limit` of `limit + 1` rows, and the cursor behind them if there was one more.

    key: the values that the list is ordered by.
    """
    if len(rows) <= limit:
        return rows, None
    kept = rows[:limit]
    return kept, encode(key(kept[-1]))


def encode(values: Sequence[Any]) -> str:
    """The cursor that stands behind the row with this sort key."""
    return base64.urlsafe_b64encode(json.dumps(values, default=_plain, separators=(",", ":")).encode()).decode()


def _plain(value: datetime) -> str:
    return value.isoformat()


def decode(cursor: str, *readers: Callable[[Any], Any]) -> list[Any]:
    """The sort key in a cursor, each value checked by its reader. Raises `Invalid` naming the field `cursor`."""
    try:
        values = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        if not isinstance(values, list):
            raise ValueError(cursor)
        return [read(value) for read, value in zip(readers, values, strict=True)]
    except (ValueError, OverflowError, binascii.Error, RecursionError):
        invalid("cursor", "this is not a cursor that this list gave; leave it out to begin at the start")


def time(value: Any) -> datetime:
    """An aware time, in UTC: Postgres takes offsets of fewer hours than Python."""
    if not isinstance(value, str):
        raise ValueError(value)
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(value)
    return moment.astimezone(UTC)


def identifier(value: Any) -> str:
    """A row's id."""
    if not isinstance(value, str):
        raise ValueError(value)
    return str(uuid.UUID(value))


def whole(value: Any) -> int:
    """A number that fits a column of type integer."""
    if type(value) is not int or abs(value) >= 2**31:
        raise ValueError(value)
    return value


def distance(value: Any) -> float | None:
    """A number that fits a column of type real, or None for the members of a noise that has no centroid."""
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(value)
    (kept,) = struct.unpack("<f", struct.pack("<f", value))
    if not kept and value:
        raise ValueError(value)  # so small that Postgres refuses it too
    return float(value)
