"""Takes query pictures in and waits for their vectors."""

from __future__ import annotations

import select
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, insert, text

from services.api.commands import catalog_checks
from services.api.commands.uploads import received, stored
from services.api.context import Service
from services.api.form_files import FORM_MARGIN_BYTES
from services.api.problems import invalid
from services.api.queries.search import QueryPicture, check_jobs, get_query, models_of_jobs
from shared import tasks
from shared.blobs import BlobStore
from shared.db import Database
from shared.pictures import MAX_PIXELS, MAX_QUERY_PICTURE_BYTES, MEDIA_TYPES
from shared.settings import Settings
from shared.tables import queries

#: The longest body of a form with a query picture.
MAX_FORM_BYTES = MAX_QUERY_PICTURE_BYTES + FORM_MARGIN_BYTES
#: A failed picture is not announced, so the row is looked at this often too.
LOOK_EVERY_S = 1.0


def check_picture(path: Path) -> None:
    """Look at the file's header; nothing is decoded here. Raises `Invalid`."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with path.open("rb") as file, Image.open(file, formats=tuple(MEDIA_TYPES)) as picture:
                width_px, height_px = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        width_px = height_px = MAX_PIXELS
    except Exception:  # damaged headers make Pillow raise anything from OSError to IndexError
        invalid("picture", "this is not a JPEG, PNG or WebP picture")
    if width_px * height_px > MAX_PIXELS:
        invalid("picture", f"the picture has more than {MAX_PIXELS // 10**6} million pixels; make it smaller")


def media_type(picture: bytes) -> str:
    """The media type of a picture that `check_picture` let in, by its first bytes."""
    is_jpeg, is_png = picture.startswith(b"\xff\xd8"), picture.startswith(b"\x89PNG")
    return MEDIA_TYPES["JPEG" if is_jpeg else "PNG" if is_png else "WEBP"]


def ask(service: Service, project_id: str, picture: IO[bytes], model: str | None, job_ids: Sequence[str] | None) -> str:
    """Take a picture in to search these jobs with, or all of the project's. Returns the query's id.

    model: when left out, the first of the newest job's. Raises `Invalid` naming the field, before the picture is read
    where it can be said then, and what `received` raises.
    """
    with service.database.transaction() as connection:
        check_jobs(connection, project_id, job_ids)
        known = models_of_jobs(connection, project_id, job_ids)
        if not known:
            invalid("jobs", "there is no job yet whose key frames could be searched")
        model = model or known[0]
        catalog_checks.check_models(connection, service.settings, [("model", model)])
    with received(picture, max_bytes=MAX_QUERY_PICTURE_BYTES, folder=service.settings.scratch_folder) as file:
        check_picture(file.path)
        return _store(service.database, service.blobs, project_id, model, file.path)


def _store(database: Database, blobs: BlobStore, project_id: str, model: str, path: Path) -> str:
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
