"""Makes the API's application: configure, register, return."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import IO, cast

from apiflask import APIFlask
from flask import Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BaseConverter

from services.api import access, compression, context, headers, openapi, origins, paths, problems, short_ids, wire
from services.api.context import Service
from services.api.form_files import FormFiles
from services.api.form_parser import MAX_PARTS, MAX_TEXT_BYTES, FormParser
from services.api.key_checks import KeyChecks
from services.api.rates import Rates
from services.api.schemas.fields import ID_BEGINNING
from shared import catalog, failpoints
from shared.blob_stores import open_blobs
from shared.db import Database
from shared.settings import MEBIBYTE, Settings

logger = logging.getLogger(__name__)

#: The largest body, where a view does not say otherwise.
MAX_BODY_BYTES = 8 * MEBIBYTE
#: Connections that a process keeps, and opens at most: one for each thread, see `server`.
POOL_SIZE, MAX_OVERFLOW = 4, 16
#: How long a request waits for a database that does not answer, in each step: a free connection, a new one, an answer
#: of the network. A browser gets its page that says so within seconds.
DATABASE_PATIENCE_S = 3
#: The same for a blob store that says nothing, twice at most.
STORE_PATIENCE_S = 5


class _Id(BaseConverter):
    """A row's id in an address, or its beginning; anything else is no address of ours."""

    regex = ID_BEGINNING

    def to_python(self, value: str) -> str:
        return value.lower()


class ApiRequest(problems.ApiRequest):
    """A request that keeps the files of its form where there is room for them, until it is answered."""

    form_data_parser_class = FormParser
    _form_files: FormFiles | None = None

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if self._form_files is None:
            self._form_files = FormFiles(context.service().settings.scratch_folder)
        return cast(IO[bytes], self._form_files.add())

    def close(self) -> None:
        # Werkzeug knows the files only of forms that it could read to the end.
        if self._form_files is not None:
            self._form_files.close()


class Api(APIFlask):
    """Flask with our requests, and our log lines for defects."""

    request_class = ApiRequest

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
    """The application on this database and this blob store. Opens no connection yet."""
    settings.require("database_url")
    blobs = open_blobs(settings, patience_s=STORE_PATIENCE_S)
    failpoints.arm(settings.failpoints_folder)
    access.check_settings(settings)
    catalog.models(settings.own_models)  # a wrong one is told at the start, not in every request
    app = Api(
        __name__,
        title="Reelmap",
        version="1",
        spec_path="/openapi.json",
        docs_path=None,
        openapi_blueprint_url_prefix=paths.API,
    )
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_TEXT_BYTES,
        MAX_FORM_PARTS=MAX_PARTS,
        **openapi.CONFIG,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.converters["id"] = _Id
    database = Database(
        settings.database_url,
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        application_name="reelmap api",
        patience_s=DATABASE_PATIENCE_S,
    )
    rates = Rates(settings.requests_per_minute, settings.wrong_keys_per_minute)
    context.attach(app, Service(settings, database, blobs, KeyChecks(database), rates))
    problems.register(app)
    openapi.register(app)
    app.before_request(_start)
    app.before_request(origins.refuse_foreign)
    app.before_request(access.admit)
    app.before_request(problems.require_json)
    app.before_request(short_ids.complete)
    compression.register(app)
    app.after_request(_finish)
    app.after_request(access.renew_sign_in)
    _register_blueprints(app)
    if n := settings.trusted_proxies:
        # Between the server and everything that asks for the client's address, scheme or host.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n)  # type: ignore[method-assign]
    app.wsgi_app = wire.Bounded(app.wsgi_app)  # type: ignore[method-assign]
    return app


def _register_blueprints(app: APIFlask) -> None:
    from services.api.blueprints import catalog as catalog_views
    from services.api.blueprints import (
        clusterings,
        exports,
        health,
        jobs,
        key_frames,
        keys,
        search,
        sources,
        uploads,
        videos,
    )
    from services.api.pages import register as pages

    views = (health, jobs, sources, clusterings, key_frames, videos, search, exports, uploads, catalog_views, keys)
    for module in views:
        app.register_blueprint(module.blueprint)
    pages.register(app)


def _start() -> None:
    g.started = time.monotonic()
    if reason := request.environ.get(wire.REFUSED):
        raise problems.HeadersTooLarge(reason)


def _finish(response: Response) -> Response:
    headers.harden(response, context.service().blobs.link_origin)
    response.headers["X-Request-ID"] = problems.request_id()
    body = request.environ.get(wire.BODY)
    if body is not None and body.is_unread:
        # What is still on its way would be taken for the next request.
        response.headers["Connection"] = "close"
    logger.info(
        "%s %s %d",
        request.method,
        request.path,
        response.status_code,
        extra={
            "event": "request",
            "request_id": problems.request_id(),
            "duration_s": round(time.monotonic() - g.get("started", time.monotonic()), 4),
            **context.caller_fields(),
        },
    )
    return response
