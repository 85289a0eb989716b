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

from sqlalchemy import insert, text

from services.api.commands.uploads import stored
from services.api.problems import invalid
from services.api.queries.search import QueryPicture, get_query
from shared import tasks
from shared.blobs import BlobStore
from shared.db import Database
from shared.settings import MEBIBYTE
from shared.tables import queries

MAX_PICTURE_BYTES = 20 * MEBIBYTE
MAX_PICTURE_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP")
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


def ask(database: Database, blobs: BlobStore, project_id: str, model: str, path: Path) -> str:
    """Store a query picture, write its row and the task that embeds it. Returns the query's id.

    The picture is in the store before the row that names it, and not left there without one.
    """
    blob = f"queries/{uuid.uuid4()}"
    with stored(blobs, [blob]):
        blobs.put(blob, path)
        with database.transaction() as connection:
            query_id: str = connection.execute(
                insert(queries).values(project_id=project_id, model=model, blob=blob).returning(queries.c.id)
            ).scalar_one()
            tasks.add_query_task(connection, query_id)
    return query_id


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
