"""What every request uses: settings, database, blobs, and whose data it is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flask import Flask, current_app
from sqlalchemy import Connection

from shared.blobs import BlobStore
from shared.db import Database
from shared.settings import Settings
from shared.tables import DEFAULT_PROJECT_ID

_EXTENSION = "reelmap"


@dataclass(frozen=True)
class Service:
    """What the application was made with."""

    settings: Settings
    database: Database
    blobs: BlobStore


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


def current_project_id() -> str:
    """The project that this request may see."""
    return DEFAULT_PROJECT_ID
