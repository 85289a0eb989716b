"""A Reelmap with something on every page: jobs in every state, clusterings, a search, exports, keys."""

from __future__ import annotations

import io
import itertools
import json
import tempfile
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import text

from shared import keys, tasks
from shared.errors import ErrorKind
from shared.roles import Role
from shared.tables import DEFAULT_PROJECT_ID
from tests.integration.api.stand_in import Workers

LONG_NAME = "2026-11-27_a_recording_of_the_whole_afternoon_with_a_name_as_cameras_and_people_make_them_" + "x" * 60
API = "/api/v1"


class PaintingWorkers(Workers):
    """A stand-in whose pictures can be told apart."""

    _hues = itertools.count()

    def put_picture(self, name: str, size_px: int) -> None:
        picture = Image.linear_gradient("L").resize((size_px, size_px))
        hue = Image.new("L", picture.size, 37 * (next(self._hues) // 2) % 256)
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
            Image.merge("HSV", (hue, Image.new("L", picture.size, 140), picture)).convert("RGB").save(file, "JPEG")
            file.flush()
            self.service.blobs.put(name, Path(file.name))


class Scene:
    """The rows, made through the API and by the stand-in. addresses: of every kind of page, by what it shows."""

    def __init__(self, app: Flask) -> None:
        self.workers = PaintingWorkers(app.extensions["reelmap"])
        self.database = self.workers.service.database
        with self.database.transaction() as connection:
            _, self.key = keys.add_key(connection, DEFAULT_PROJECT_ID, "Somebody who looks at pages", Role.ADMIN)
            keys.add_key(connection, DEFAULT_PROJECT_ID, "The camera at the door", Role.WRITER)
        self.client: FlaskClient = app.test_client()
        self.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {self.key}"
        self.addresses: dict[str, str] = {}
        self._add_jobs()
        self._add_results()
        self._add_search()
        self.addresses |= {
            "jobs": "/",
            "search": "/search",
            "keys": "/keys",
            "nothing there": "/no/such/page",
            "no such job": f"/jobs/{'0' * 8}-0000-4000-8000-{'0' * 12}",
            "a wrong address": "/?cursor=nonsense",
            "documentation": f"{API}/docs",
        }

    def _add_jobs(self) -> None:
        """One in every state. The one that `finished_id` names has results, and something that failed."""
        self.finished_id = self._submit("Two clips and one that failed", 5)
        self.workers.fail(self.finished_id, ErrorKind.NOT_FOUND, "There is no such video: the server said 404.")
        self.workers.extract(self.finished_id)
        self.workers.embed(self.finished_id)
        again = {"algorithm": "kmeans", "n_clusters": "auto", "name": "By colour"}
        self._sent(f"/jobs/{self.finished_id}/clusterings", **again)
        self.workers.cluster(self.finished_id, n_clusters=3, noise=2)
        with self.database.transaction() as connection:
            connection.execute(
                text("UPDATE clusterings SET evidence = CAST(:evidence AS jsonb) WHERE job_id = :job"),
                {
                    "job": self.finished_id,
                    "evidence": json.dumps(
                        [{"n_clusters": k, "silhouette": 0.1 * k, "inertia": 9.5 - k} for k in (2, 3, 4, 6)]
                    ),
                },
            )
        succeeded = self._submit("", 1)
        self.workers.finish(succeeded)
        failed = self._submit(f"Failed {LONG_NAME}", 1)
        self.workers.fail(failed, ErrorKind.FORBIDDEN, "The server refuses to hand it out: it said 403.")
        cancelled = self._submit("Cancelled", 2)
        self.client.post(f"{API}/jobs/{cancelled}/cancel")
        running = self._submit("Running", 3)
        with self.database.transaction() as connection:
            assert len(self.workers.claim(connection, "t.job_id = :job", job=running)) == 3
            tasks.advance(connection, running)
        waiting = self._submit("Waiting", 2)
        self.addresses |= {
            "job": f"/jobs/{self.finished_id}",
            "succeeded job": f"/jobs/{succeeded}",
            "failed job": f"/jobs/{failed}",
            "cancelled job": f"/jobs/{cancelled}",
            "running job": f"/jobs/{running}",
            "waiting job": f"/jobs/{waiting}",
            "key frames of a job": f"/jobs/{self.finished_id}/key-frames",
        }

    def _submit(self, name: str, sources: int) -> str:
        urls = [f"https://videos.example/{name[:6]}/{number}/{LONG_NAME}.mp4" for number in range(sources)]
        job_id: str = self._sent("/jobs", videos=urls, models=["hog_color"], name=name)["id"]
        return job_id

    def _sent(self, path: str, **body: object) -> dict:
        answer = self.client.post(API + path, json=body)
        assert answer.status_code in (200, 202), answer.json
        found: dict = answer.json
        return found

    def _got(self, path: str) -> dict:
        found: dict = self.client.get(path).json
        return found

    def _add_results(self) -> None:
        made = self._got(f"{API}/jobs/{self.finished_id}/clusterings")["clusterings"]
        clusters = self._got(made[0]["links"]["clusters"])["clusters"]
        frames = self._got(f"{API}/jobs/{self.finished_id}/key-frames")["key_frames"]
        export = self._sent("/exports", job_id=self.finished_id, format="jsonl")
        self.addresses |= {
            "clustering": made[0]["links"]["page"],
            "named clustering": next(each["links"]["page"] for each in made if each["name"]),
            "cluster": next(each["links"]["page"] for each in clusters if each["label"] >= 0),
            "noise": next(each["links"]["page"] for each in clusters if each["label"] < 0),
            "key frame": f"/key-frames/{frames[0]['id']}?job={self.finished_id}",
            "video": f"/videos/{frames[0]['video_id']}?job={self.finished_id}",
            "more like this": f"/search?key_frame={frames[0]['id']}",
            "exports": "/exports",
            "export": export["links"]["page"],
        }

    def _add_search(self) -> None:
        """A picture that was searched with and has its vector, and one that waits for it."""
        for name, vector in (("found", "[1,0,0]"), ("searching", None)):
            picture = io.BytesIO()
            Image.radial_gradient("L").resize((320, 180 if vector else 240)).convert("RGB").save(picture, "JPEG")
            picture.seek(0)
            answer = self.client.post("/search", data={"picture": (picture, "picture.jpg"), "model": "hog_color"})
            assert answer.status_code == 303, answer.text
            self.addresses[name] = answer.location
            if vector:
                self._answer(vector)

    def _answer(self, vector: str) -> None:
        with self.database.transaction() as connection:
            (claim,) = self.workers.claim(connection, "t.queue = 'query'")
            assert tasks.succeed(connection, claim)
            connection.execute(
                text("UPDATE queries SET vector = CAST(:vector AS vector) WHERE id = :id"),
                {"vector": vector, "id": claim.query_id},
            )
