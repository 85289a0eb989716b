"""Takes query pictures in and waits for their vectors."""

from __future__ import annotations

import select
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, text

from services.api.commands import catalog_checks
from services.api.commands.uploads import stored
from services.api.problems import invalid
from services.api.queries.search import QueryPicture, get_query
from shared import tasks
from shared.blobs import BlobStore
from shared.db import Database
from shared.settings import MEBIBYTE, Settings
from shared.tables import queries

MAX_PICTURE_BYTES = 20 * MEBIBYTE
MAX_PICTURE_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP")
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")
#: A failed picture is not announced, so the row is looked at this often too.
LOOK_EVERY_S = 1.0


def check_picture(path: Path) -> None:
    """Look at the file's header; nothing is decoded here. Raises `Invalid`."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
                width_px, height_px = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        width_px = height_px = MAX_PICTURE_PIXELS
    except Exception:  # damaged headers make Pillow raise anything from OSError to IndexError
        invalid("picture", "this is not a JPEG, PNG or WebP picture")
    if width_px * height_px > MAX_PICTURE_PIXELS:
        invalid("picture", f"the picture has more than {MAX_PICTURE_PIXELS // 10**6} million pixels; make it smaller")


def media_type(picture: bytes) -> str:
    """The media type of a picture that `check_picture` let in, by its first bytes."""
    jpeg, png, webp = MEDIA_TYPES
    return jpeg if picture.startswith(b"\xff\xd8") else png if picture.startswith(b"\x89PNG") else webp


def ask(database: Database, blobs: BlobStore, project_id: str, model: str, path: Path) -> str:
    """Store a query picture, write its row and the task that embeds it. Returns the query's id.

    The picture is in the store before the row that names it, and not left there without one.
    """
    blob = f"queries/{uuid.uuid4()}"
    with stored(blobs, [blob]):
        blobs.put(blob, path)
        with database.transaction() as connection:
            return _add_query(connection, project_id, model, blob)


def _add_query(connection: Connection, project_id: str, model: str, blob: str) -> str:
    query_id: str = connection.execute(
        insert(queries).values(project_id=project_id, model=model, blob=blob).returning(queries.c.id)
    ).scalar_one()
    tasks.add_query_task(connection, query_id)
    return query_id


def query_for_model(
    connection: Connection, settings: Settings, project_id: str, query_id: str, model: str | None
) -> str:
    """The query of the same picture under that model: this one, another that was made of it, or a new one. Its id.

    Raises `NotFound`, or `Invalid` for a model that cannot be used.
    """
    picture = get_query(connection, project_id, query_id)
    if model in (None, picture.model):
        return picture.id
    assert model
    catalog_checks.check_models(connection, settings, [("model", model)])
    found: str | None = connection.execute(
        text(
            """SELECT q.id FROM queries q JOIN tasks t ON t.query_id = q.id
            WHERE q.project_id = :project AND q.blob = :blob AND q.model = :model AND t.state <> 'failed'
            ORDER BY q.created_at DESC LIMIT 1"""
        ),
        {"project": project_id, "blob": picture.blob, "model": model},
    ).scalar()
    return found or _add_query(connection, project_id, model, picture.blob)


def wait_for_vector(database: Database, project_id: str, query_id: str, *, wait_s: float) -> QueryPicture:
    """The query picture as soon as it has its vector or failed, or as it stands after `wait_s` seconds."""
    deadline = time.monotonic() + wait_s

    def look() -> QueryPicture:
        with database.transaction() as connection:
            return get_query(connection, project_id, query_id)

    with _listening(database, tasks.QUERIES_CHANNEL) as wait:
        # Looked at only once the announcement cannot be missed any more.
        picture = look()
        while not picture.is_settled and (left_s := deadline - time.monotonic()) > 0:
            wait(min(left_s, LOOK_EVERY_S), query_id)
            picture = look()
    return picture


@contextmanager
def _listening(database: Database, channel: str) -> Iterator[Callable[[float, str], None]]:
    """Gives a function that waits so many seconds, or until this payload was announced on the channel."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Not to be given back to the pool, where it would go on listening.
        connection.detach()
        connection.execute(text(f"LISTEN {channel}"))
        raw: Any = connection.connection.dbapi_connection

        def wait(seconds: float, payload: str) -> None:
            until = time.monotonic() + seconds
            while (left_s := until - time.monotonic()) > 0:
                if select.select([raw], [], [], left_s)[0]:
                    raw.poll()
                    heard = [notification.payload for notification in raw.notifies]
                    raw.notifies.clear()
                    if payload in heard:
                        return

        yield wait
