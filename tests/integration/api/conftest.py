"""The application on a real Postgres, open and asking for keys, and a stand-in for the workers."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from apiflask import APIFlask
from flask import Response, request
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import text

from services.api.app import create_app
from services.api.context import Service
from services.embedding.availability import note_what_loads
from services.exports.tasks import ExportsHandler
from shared import keys
from shared.db import Database
from shared.roles import Role
from shared.runner import Runner
from shared.settings import Settings, load_settings
from tests.integration.api.stand_in import Workers


def settings_for(database_url: str, folder: Path) -> Settings:
    """Settings under which `hog_color`, `efficientnet_lite0` and an own model are the only ones that load."""
    return load_settings(
        {
            "REELMAP_DATABASE_URL": database_url,
            "REELMAP_BLOBS_FOLDER": str(folder / "blobs"),
            "REELMAP_WORK_FOLDER": str(folder / "work"),
            "REELMAP_MAX_UPLOAD_BYTES": "100000",
            "REELMAP_QUERY_WAIT_S": "0.3",
            "REELMAP_HUB": "no",
            "REELMAP_ACCESS": "open",
            "REELMAP_OWN_MODELS": json.dumps({"tiny": {"library": "transformers", "weights": str(folder)}}),
        }
    )


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_for(database_url, tmp_path)


@pytest.fixture
def with_keys(settings: Settings) -> Settings:
    """The same settings for an application that asks for keys."""
    return replace(settings, access="keys", cookie_secret="0123456789abcdef" * 2)


@pytest.fixture(scope="session")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The OpenAPI document."""
    folder = tmp_path_factory.mktemp("document")
    app = create_app(
        Settings(database_url="postgresql+psycopg2:///nowhere", blobs_folder=folder, own_models={}, access="open")
    )
    return app.test_client().get("/api/v1/openapi.json").json


def app_for(settings: Settings, document: dict) -> APIFlask:
    """The application, where a worker has said which models load; an answer of a status or kind that the OpenAPI
    document does not name is an error."""
    app = create_app(settings)
    note_what_loads(settings, app.extensions["reelmap"].database)

    @app.after_request
    def hold_to_the_document(response: Response) -> Response:
        path = re.sub(r"<[^:>]+:(\w+)>", r"{\1}", request.url_rule.rule) if request.url_rule else ""
        operation = document["paths"].get(path, {}).get(request.method.lower())
        if operation:
            documented = operation["responses"].get(str(response.status_code))
            assert documented, f"{request.method} {path} answered {response.status_code}"
            assert response.status_code in (204, 302, 304) or response.mimetype in documented["content"]
        return response

    return app


@pytest.fixture
def app(settings: Settings, document: dict) -> Iterator[APIFlask]:
    app = app_for(settings, document)
    yield app
    app.extensions["reelmap"].database.dispose()


@pytest.fixture
def closed_app(with_keys: Settings, document: dict) -> Iterator[APIFlask]:
    """The application on the same database, asking for keys."""
    app = app_for(with_keys, document)
    yield app
    app.extensions["reelmap"].database.dispose()


@pytest.fixture
def make_key(closed_app: APIFlask):
    """Makes a key. Returns its text."""

    def make_key(role: str, *, name: str = "", project: str = "default") -> str:
        with closed_app.extensions["reelmap"].database.transaction() as connection:
            project_id = keys.project_id_of(connection, project, make=True)
            assert project_id
            _, text = keys.add_key(connection, project_id, name or f"a {role}", Role(role))
        return text

    return make_key


@pytest.fixture
def closed_client(closed_app: APIFlask) -> FlaskClient:
    """Somebody without a key."""
    return closed_app.test_client()


@pytest.fixture
def with_key(closed_app: APIFlask, make_key):
    """Makes a key and gives a client that shows it."""

    def with_key(role: str, **named: str) -> FlaskClient:
        client = closed_app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {make_key(role, **named)}"
        return client

    return with_key


@pytest.fixture(scope="session")
def standing_client(
    postgres_server, migrated_template: str, document: dict, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlaskClient]:
    """A client of an application that many tests share: for requests that are refused, and so change nothing."""
    database_url = postgres_server.create_database("standing", template=migrated_template)
    app = app_for(settings_for(database_url, tmp_path_factory.mktemp("standing")), document)
    yield app.test_client()
    app.extensions["reelmap"].database.dispose()
    postgres_server.drop_database("standing")


@pytest.fixture(scope="session")
def standing_job_id(standing_client: FlaskClient) -> str:
    """The one job of that application: one video, `hog_color`."""
    body = {"videos": ["https://example.org/a"], "models": ["hog_color"]}
    return standing_client.post("/api/v1/jobs", json=body).json["id"]


@pytest.fixture
def client(app: APIFlask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def service(app: APIFlask) -> Service:
    """The settings, database and blobs of the application."""
    found: Service = app.extensions["reelmap"]
    return found


@pytest.fixture
def database(service: Service) -> Database:
    return service.database


@pytest.fixture
def submit(client: FlaskClient):
    """Submits a job of so many videos, or of these URLs, under `hog_color`. Returns the answer's JSON."""

    def submit(videos: int | Sequence[str] = 2, **fields: object) -> dict:
        urls = [f"https://example.org/{i}.mp4" for i in range(videos)] if isinstance(videos, int) else list(videos)
        answer = client.post("/api/v1/jobs", json={"videos": urls, "models": ["hog_color"], **fields})
        assert answer.status_code == 202, answer.json
        return answer.json

    return submit


@pytest.fixture
def workers(service: Service) -> Workers:
    return Workers(service)


@pytest.fixture
def write(service: Service, tmp_path: Path):
    """Does every export task that waits."""
    runner = Runner(
        database=service.database,
        work_folder=tmp_path / "work",
        lease_s=60,
        heartbeat_s=20,
        backoff_s=0,
        stop_grace_s=0,
    )
    handler = ExportsHandler(service.settings, service.database, service.blobs)

    def write() -> None:
        with service.database.transaction() as connection:
            ids = connection.execute(
                text("SELECT id FROM tasks WHERE queue = 'exports' AND state = 'queued' ORDER BY created_at")
            ).scalars()
            task_ids = list(ids)
        for task_id in task_ids:
            runner.run_tasks([task_id], handler)

    return write


@pytest.fixture
def jpeg() -> bytes:
    """A small JPEG picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()
