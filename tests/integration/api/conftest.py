"""The application on a real Postgres, and a stand-in for the workers that drives `shared.tasks` itself."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from apiflask import APIFlask
from flask import Response, request
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import Connection, insert, text

from services.api.app import create_app
from services.api.context import Service
from shared import keys, tasks
from shared.db import Database
from shared.errors import ErrorKind
from shared.keys import Role
from shared.settings import Settings, load_settings
from shared.tables import (
    DEFAULT_PROJECT_ID,
    assignments,
    clusters,
    embeddings,
    extractions,
    key_frames,
    videos,
)
from shared.tasks import Claim


def settings_for(database_url: str, folder: Path) -> Settings:
    """Settings under which `hog_color` and an own model are the only ones whose weights are there."""
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
    """The application; an answer of a status or kind that the OpenAPI document does not name is an error."""
    app = create_app(settings)

    @app.after_request
    def hold_to_the_document(response: Response) -> Response:
        path = re.sub(r"<[^:>]+:(\w+)>", r"{\1}", request.url_rule.rule) if request.url_rule else ""
        operation = document["paths"].get(path, {}).get(request.method.lower())
        if operation:
            documented = operation["responses"].get(str(response.status_code))
            assert documented, f"{request.method} {path} answered {response.status_code}"
            assert response.status_code in (204, 304) or response.mimetype in documented["content"]
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


class Workers:
    """Does tasks as workers would: claims, writes result rows, succeeds, advances."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._numbers = itertools.count()

    def claim(self, connection: Connection, where: str, **values: object) -> list[Claim]:
        """Claim every queued task that matches."""
        ids = connection.execute(
            text(f"SELECT t.id FROM tasks t WHERE t.state = 'queued' AND {where} ORDER BY t.created_at, t.id"), values
        ).scalars()
        return tasks.claim(connection, list(ids), owner="test", lease_s=60)

    def extract(self, job_id: str, *, frames: int = 100, key_frames_each: int = 3, same_video: bool = False) -> None:
        """Every queued source becomes a video of its own, or all of them one and the same."""
        with self.service.database.transaction() as connection:
            for claim in self.claim(connection, "t.job_id = :job AND t.queue = 'keyframes'", job=job_id):
                number = 0 if same_video else next(self._numbers)
                assert tasks.succeed(connection, claim)
                self._save_video(connection, claim, number, frames, key_frames_each)
                tasks.lock_job(connection, job_id)
                tasks.add_embedding_tasks(connection, job_id)
                tasks.advance(connection, job_id)

    def _save_video(self, connection: Connection, claim: Claim, number: int, frames: int, count: int) -> None:
        sha256 = hashlib.sha256(str(number).encode()).hexdigest()
        known = connection.execute(
            text(
                """SELECT v.id, x.id AS extraction_id FROM videos v JOIN extractions x ON x.video_id = v.id
                WHERE v.sha256 = :sha256"""
            ),
            {"sha256": sha256},
        ).one_or_none()
        if known:
            video_id, extraction_id = known
        else:
            video_id, extraction_id = self._new_video(connection, sha256, frames, count)
        connection.execute(
            text("UPDATE sources SET video_id = :video, extraction_id = :extraction WHERE id = :id"),
            {"video": video_id, "extraction": extraction_id, "id": claim.source_id},
        )

    def _new_video(self, connection: Connection, sha256: str, frames: int, count: int) -> tuple[str, str]:
        video_id = connection.execute(
            insert(videos).values(project_id=DEFAULT_PROJECT_ID, sha256=sha256, size_bytes=1000).returning(videos.c.id)
        ).scalar_one()
        extraction_id = connection.execute(
            insert(extractions)
            .values(
                video_id=video_id,
                recipe="r",
                settings={},
                frames=frames,
                duration_s=frames / 10,
                facts={"container": "mp4", "codec": "h264", "width_px": 640, "height_px": 360, "pixel_format": "x"},
                shots=[[0, frames, 0.0, frames / 10]],
                damaged_packets=0,
                key_frame_count=count,
            )
            .returning(extractions.c.id)
        ).scalar_one()
        for position in range(count):
            blob, small_blob = (f"pictures/{extraction_id}/{position}{end}" for end in (".jpg", "_small.jpg"))
            for name, size_px in ((blob, 64), (small_blob, 16)):
                self.put_picture(name, size_px)
            connection.execute(
                insert(key_frames).values(
                    extraction_id=extraction_id,
                    position=position,
                    frame_index=position * 10,
                    time_s=position * 1.0,
                    shot_index=0,
                    width_px=64,
                    height_px=64,
                    blob=blob,
                    small_blob=small_blob,
                    repeats=[[0.5, 0.75]] if position == 0 else [],
                )
            )
        return video_id, extraction_id

    def put_picture(self, name: str, size_px: int) -> None:
        path = self.service.blobs.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size_px, size_px)).save(path, "JPEG")

    def embed(self, job_id: str) -> None:
        """Give every key frame of every queued chunk a vector, on a line from the first axis to the second."""
        with self.service.database.transaction() as connection:
            for claim in self.claim(connection, "t.job_id = :job AND t.queue = 'embedding'", job=job_id):
                assert tasks.succeed(connection, claim)
                connection.execute(
                    text("INSERT INTO models (name, dimension) VALUES (:name, 3) ON CONFLICT DO NOTHING"),
                    {"name": claim.model},
                )
                rows = connection.execute(
                    text(
                        """
                        SELECT k.id FROM key_frames k JOIN extractions x ON x.id = k.extraction_id
                        WHERE x.video_id = :video AND NOT EXISTS (
                            SELECT FROM embeddings e WHERE e.key_frame_id = k.id AND e.model = :model)
                        ORDER BY k.position"""
                    ),
                    {"video": claim.video_id, "model": claim.model},
                ).scalars()
                for id_ in list(rows):
                    angle = 0.01 * next(self._numbers)
                    connection.execute(
                        insert(embeddings).values(
                            key_frame_id=id_, model=claim.model, vector=np.array([np.cos(angle), np.sin(angle), 0])
                        )
                    )
                tasks.advance(connection, job_id)

    def cluster(self, job_id: str, *, n_clusters: int = 2, noise: int = 0) -> None:
        """Run every queued clustering: key frames dealt out in turn, the first `noise` of them to noise."""
        with self.service.database.transaction() as connection:
            for claim in self.claim(connection, "t.job_id = :job AND t.queue = 'clustering'", job=job_id):
                assert tasks.succeed(connection, claim)
                self._save_clusters(connection, claim, n_clusters, noise)
                tasks.advance(connection, job_id)

    def _save_clusters(self, connection: Connection, claim: Claim, n_clusters: int, noise: int) -> None:
        ids = list(
            connection.execute(
                text(
                    """SELECT DISTINCT k.id, x.video_id, k.position FROM sources s
                    JOIN extractions x ON x.id = s.extraction_id
                    JOIN key_frames k ON k.extraction_id = x.id WHERE s.job_id = :job ORDER BY x.video_id, k.position"""
                ),
                {"job": claim.job_id},
            ).scalars()
        )
        labels = [-1 if i < noise else i % n_clusters for i in range(len(ids))]
        connection.execute(
            text(
                """UPDATE clusterings SET key_frame_count = :n, complete = true, n_clusters_used = :k, seed = 0,
                inertia = 1.5, silhouette = 0.5, noise_count = :noise, notes = '["a note"]', evidence = '[]'
                WHERE id = :id"""
            ),
            {"n": len(ids), "k": n_clusters, "noise": noise, "id": claim.clustering_id},
        )
        for label in range(n_clusters):
            members = [id_ for id_, own in zip(ids, labels, strict=True) if own == label]
            connection.execute(
                insert(clusters).values(
                    clustering_id=claim.clustering_id,
                    label=label,
                    size=len(members),
                    video_count=1,
                    mean_distance=0.5,
                    medoid_id=members[0],
                )
            )
        connection.execute(
            insert(assignments),
            [
                {
                    "clustering_id": claim.clustering_id,
                    "key_frame_id": id_,
                    "label": label,
                    "distance": None if label < 0 else 0.1 * (1 + i // 4),
                }
                for i, (id_, label) in enumerate(zip(ids, labels, strict=True))
            ],
        )

    def finish(self, job_id: str, **how: object) -> None:
        """All stages of a job, one after the other."""
        self.extract(job_id, **how)  # type: ignore[arg-type]
        self.embed(job_id)
        self.cluster(job_id)

    def fail(self, job_id: str, kind: ErrorKind, reason: str, *, limit: int = 1, queue: str = "keyframes") -> None:
        """Fail so many queued tasks of the job."""
        with self.service.database.transaction() as connection:
            where = "t.job_id = :job AND t.queue = :queue"
            for claim in self.claim(connection, where, job=job_id, queue=queue)[:limit]:
                assert tasks.fail(connection, claim, kind, reason)
            connection.execute(
                text(
                    """UPDATE tasks SET state = 'queued', lease_until = NULL, owner = NULL, attempt = 0
                    WHERE job_id = :job AND state = 'running'"""
                ),
                {"job": job_id},
            )
            tasks.advance(connection, job_id)


@pytest.fixture
def workers(service: Service) -> Workers:
    return Workers(service)


@pytest.fixture
def jpeg() -> bytes:
    """A small JPEG picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()
