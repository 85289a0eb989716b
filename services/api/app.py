"""Makes the API's application: configure, register, return."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from apiflask import APIFlask
from flask import Response, g, request
from werkzeug.routing import BaseConverter, UUIDConverter

from services.api import context, openapi, paths, problems
from services.api.context import Service
from shared import catalog, failpoints
from shared.blobs import FolderBlobs
from shared.db import Database
from shared.settings import MEBIBYTE, Settings

logger = logging.getLogger(__name__)

#: The largest body, where a view does not say otherwise.
MAX_BODY_BYTES = 8 * MEBIBYTE
#: Connections that a process keeps, and opens at most: one for each thread, see `server`.
POOL_SIZE, MAX_OVERFLOW = 4, 16

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


class _Id(UUIDConverter):
    """A row's id in an address; anything else is no address of ours."""

    def to_python(self, value: str) -> str:  # type: ignore[override]
        return value.lower()

    to_url = BaseConverter.to_url


class Api(APIFlask):
    """Flask with our requests, and our log lines for defects."""

    request_class = problems.ApiRequest

    def log_exception(self, exc_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None]) -> None:
        logger.error(
            "a defect: %s %s: %r",
            request.method,
            request.path,
            exc_info[1],
            exc_info=exc_info,
            extra={"request_id": problems.request_id()},
        )


def create_app(settings: Settings) -> APIFlask:
    """The application on this database and this blob folder. Opens no connection yet."""
    settings.require("database_url", "blobs_folder")
    assert settings.blobs_folder
    failpoints.arm(settings.failpoints_folder)
    catalog.models(settings.own_models)  # a wrong one is told at the start, not in every request
    app = Api(
        __name__,
        title="Reelmap",
        version="1",
        spec_path="/openapi.json",
        docs_path=None,
        openapi_blueprint_url_prefix=paths.API,
    )
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, **openapi.CONFIG)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.converters["id"] = _Id
    database = Database(
        settings.database_url, pool_size=POOL_SIZE, max_overflow=MAX_OVERFLOW, application_name="reelmap api"
    )
    context.attach(app, Service(settings, database, FolderBlobs(settings.blobs_folder)))
    problems.register(app)
    openapi.register(app)
    app.before_request(_start)
    app.before_request(problems.require_json)
    app.after_request(_finish)
    _register_blueprints(app)
    return app


def _register_blueprints(app: APIFlask) -> None:
    from services.api.blueprints import catalog as catalog_views
    from services.api.blueprints import clusterings, health, jobs, key_frames, search, uploads
    from services.api.pages import register as pages

    for module in (health, jobs, clusterings, key_frames, search, uploads, catalog_views):
        app.register_blueprint(module.blueprint)
    pages.register(app)


def _start() -> None:
    g.started = time.monotonic()


def _finish(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-ID"] = problems.request_id()
    logger.info(
        "%s %s %d",
        request.method,
        request.path,
        response.status_code,
        extra={
            "event": "request",
            "request_id": problems.request_id(),
            "duration_s": round(time.monotonic() - g.get("started", time.monotonic()), 4),
        },
    )
    return response
