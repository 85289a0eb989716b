"""What every request uses: settings, database, blobs, and whose data it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from flask import Flask, current_app, g
from sqlalchemy import Connection

from services.api.key_checks import KeyChecks
from services.api.rates import Rates
from shared.blobs import BlobStore
from shared.db import Database, is_conflict
from shared.roles import Role
from shared.settings import Settings
from shared.tables import DEFAULT_PROJECT_ID

T = TypeVar("T")

_EXTENSION = "reelmap"

#: How long a write that others were in the way of is tried again.
CONFLICTS_FOR_S = 10


@dataclass(frozen=True)
class Service:
    """What the application was made with."""

    settings: Settings
    database: Database
    blobs: BlobStore
    keys: KeyChecks
    rates: Rates


@dataclass(frozen=True)
class Caller:
    """Who asks. key_id, name: None when nobody has to show a key."""

    project_id: str
    role: Role
    key_id: str | None = None
    name: str | None = None


#: Whoever asks when no key is needed. Keys are made by those who have one, or on the command line.
ANYBODY = Caller(DEFAULT_PROJECT_ID, Role.WRITER)


def attach(app: Flask, service: Service) -> None:
    """Make `service` what `service()` answers inside this application."""
    app.extensions[_EXTENSION] = service


def service() -> Service:
    """The settings, database and blobs of the application that answers this request."""
    found: Service = current_app.extensions[_EXTENSION]
    return found


@contextmanager
def transaction() -> Iterator[Connection]:
    """One transaction of this request."""
    with service().database.transaction() as connection:
        yield connection


def write(unit: Callable[[Connection], T]) -> T:
    """Do `unit` in one transaction of this request; again where it was rolled back because others were in its way.

    For what changes several rows that others change too. A connection that broke is not tried again: perhaps it was
    done then, and only the person who asked can tell whether twice is too much.
    """
    return service().database.retrying(unit, for_s=CONFLICTS_FOR_S, after=is_conflict)


def caller() -> Caller:
    """Who asks; only for addresses that are not for everybody, see `access`."""
    found: Caller = g.caller
    return found


def caller_fields() -> dict[str, str]:
    """What a log line says of who asked: the key by its id; nothing where there is none."""
    found: Caller | None = g.get("caller")
    return {"key_id": found.key_id} if found and found.key_id else {}


def current_project_id() -> str:
    """The project that this request may see."""
    return caller().project_id
