"""Fuzzes the API from its own OpenAPI document: `python -m tests.fuzz.api --minutes 10 --seed 7`.

Schemathesis makes the requests, well-formed ones and broken ones, and holds the answers to the document. The API is the
real process on a real Postgres. There are no workers: what is submitted stays as it is, and some jobs have all their
results already, so that ids of every kind exist.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import requests
from PIL import Image

from services.api.context import Service
from services.api.key_checks import KeyChecks
from services.api.rates import Rates
from services.local.guard import Guard
from services.local.postgres import EmbeddedPostgres
from services.local.up import listen, page_url, port_of, wait_until_ready
from shared import keys
from shared.db import Database, migrate
from shared.folder_blobs import FolderBlobs
from shared.roles import Role
from shared.settings import Settings
from shared.tables import DEFAULT_PROJECT_ID
from tests.integration.api.stand_in import Workers

KEY_VARIABLE = "REELMAP_FUZZ_KEY"
#: Jobs that are there when it begins; requests delete some.
JOBS = 12
#: How often a parameter gets one of the ids that exist.
KNOWN_ID = 0.6

#: The one check that is off, and only where it asks for what no document can say: that a well-formed request is taken.
#: These name videos, models, jobs or settings that may not be there, a cursor that only a list gives, a printable name.
NOT_SAYABLE = (
    "GET /api/v1/clusterings/{clustering_id}/clusters",
    "GET /api/v1/clusters/{cluster_id}/key-frames",
    "GET /api/v1/exports",
    "GET /api/v1/jobs",
    "GET /api/v1/jobs/{job_id}/key-frames",
    "GET /api/v1/jobs/{job_id}/clusterings",
    "GET /api/v1/jobs/{job_id}/sources",
    "GET /api/v1/keys",
    "GET /api/v1/searches/{query_id}",
    "GET /api/v1/videos/{video_id}/key-frames",
    "PATCH /api/v1/jobs/{job_id}/sources/{source_id}",
    "POST /api/v1/exports",
    "POST /api/v1/jobs",
    "POST /api/v1/jobs/{job_id}/clusterings",
    "POST /api/v1/jobs/{job_id}/models",
    "POST /api/v1/jobs/{job_id}/sources",
    "POST /api/v1/keys",
    "POST /api/v1/search",
    "POST /api/v1/uploads",
)


@dataclass(frozen=True)
class Api:
    """A running API, an admin's key to it, and ids that it knows, by the parameter that takes them."""

    base: str
    key: str
    ids: dict[str, list[str]]
    log: Path


@dataclass(frozen=True)
class Outcome:
    """What a run found. requests: as the API counted them. errors: its answers with a status of 500 or more."""

    requests: int
    errors: list[str]
    defects: list[str]
    passed: bool
    report: str

    @property
    def is_good(self) -> bool:
        """Whether every check held, and the API thought so too."""
        return self.passed and not self.errors and not self.defects

    def __str__(self) -> str:
        verdict = "passed" if self.is_good else "FAILED"
        return (
            f"{verdict}: {self.requests} requests, {len(self.errors)} answered 5xx, {len(self.defects)} defects logged"
        )


@contextmanager
def live_api(guard: Guard, database_url: str, folder: Path) -> Iterator[Api]:
    """The API's own process on this database, with jobs whose results are there."""
    settings = Settings(
        database_url=database_url,
        blobs_folder=folder / "blobs",
        work_folder=folder / "work",
        own_models={},
        access="keys",
        hub=False,
        max_upload_bytes=100_000,
        query_wait_s=0.05,
        cookie_secret=secrets.token_hex(32),
        requests_per_minute=0,
        wrong_keys_per_minute=0,
    )
    database = Database(database_url)
    service = Service(settings, database, FolderBlobs(folder / "blobs"), KeyChecks(database), Rates(0, 0))
    with database.transaction() as connection:
        _, key = keys.add_key(connection, DEFAULT_PROJECT_ID, "fuzz", Role.ADMIN)
    log = folder / "api.log"
    with listen("127.0.0.1", 0) as listener:
        settings = replace(settings, api_port=port_of(listener))
        argv = [sys.executable, "-P", "-m", "services.api.server", "--listener-fd", str(listener.fileno())]
        process = guard.spawn(argv, log=log, env={**os.environ, **settings.to_environ()}, keep_fds=(listener.fileno(),))
    base = page_url(settings.api_host, settings.api_port)
    try:
        if not wait_until_ready(base, lambda: None):
            raise RuntimeError(f"the API did not start: {log.read_text()}")
        yield Api(base, key, _fill(base, key, Workers(service)), log)
    finally:
        guard.kill(process)
        database.dispose()


def _fill(base: str, key: str, workers: Workers) -> dict[str, list[str]]:
    """Submit jobs and give them results. Returns the ids there are."""
    ids: dict[str, list[str]] = {name: [] for name in ("job", "clustering", "cluster", "key_frame", "query", "upload")}
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {key}"

        def ask(method: str, path: str, **arguments: Any) -> Any:
            answer = session.request(method, f"{base}/api/v1{path}", **arguments)
            answer.raise_for_status()
            return answer.json()

        picture = io.BytesIO()
        Image.new("RGB", (32, 32), (200, 30, 30)).save(picture, "JPEG")
        for number in range(JOBS):
            upload = ask("POST", "/uploads", params={"file_name": f"{number}.mp4"}, data=f"film {number}")
            job = ask("POST", "/jobs", json={"videos": [f"https://example.org/{number}.mp4"], "models": ["hog_color"]})
            workers.finish(job["id"])
            clustering = ask("GET", f"/jobs/{job['id']}/clusterings")["clusterings"][0]
            clusters = ask("GET", f"/clusterings/{clustering['id']}/clusters")["clusters"]
            query = ask("POST", "/search", files={"picture": picture.getvalue()}, data={"model": "hog_color"})
            ids["upload"].append(upload["url"])
            ids["job"].append(job["id"])
            ids["clustering"].append(clustering["id"])
            ids["cluster"] += [cluster["id"] for cluster in clusters]
            ids["key_frame"] += [cluster["medoid"]["id"] for cluster in clusters]
            ids["query"].append(query["query"]["query_id"])
    return ids


def fuzz(api: Api, folder: Path, *, seed: int, duration_s: int | None = None, examples: int | None = None) -> Outcome:
    """Send requests of this seed: for so long, or so many examples for each operation."""
    config = folder / "schemathesis.toml"
    config.write_text(_config(api))
    limits = ["--max-time", str(duration_s)] if duration_s else ["--max-examples", str(examples)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color"),
            *("run", f"{api.base}/api/v1/openapi.json", "--seed", str(seed), *limits),
            *("--generation-database", "none", "--warnings", "off", "--continue-on-failure"),
        ],
        cwd=folder,
        env={**os.environ, KEY_VARIABLE: api.key},
        capture_output=True,
        text=True,
        check=False,
    )
    log = api.log.read_text()
    answered = re.findall(r" INFO api: (\w+ \S+ (\d{3})) event=request", log)
    errors = [line for line, status in answered if int(status) >= 500]
    defects = re.findall(r" ERROR api: (.*)", log)
    return Outcome(len(answered), errors, defects, done.returncode == 0, done.stdout + done.stderr)


def _config(api: Api) -> str:
    """The key stays in the environment: arguments and files can be read by others."""
    lines = [f'headers = {{ Authorization = "Bearer ${{{KEY_VARIABLE}}}" }}', ""]
    values = {**api.ids, "video": [*api.ids["upload"], "https://example.org/more.mp4"], "model": ["hog_color"]}
    for name, known in values.items():
        lines += [f"[dictionaries.{name}]", f"values = {json.dumps(known)}", ""]
    named = {f"path.{name}_id": name for name in api.ids if name != "upload"}
    named |= {"body.videos[*]": "video", "body.models[*]": "model", "body.jobs[*]": "job"}
    named |= {"body.key_frame_id": "key_frame", "body.query_id": "query", "query.jobs": "job", "body.model": "model"}
    lines += ["[parameters]"]
    lines += [f'"{name}" = {{ dictionary = "{of}", probability = {KNOWN_ID} }}' for name, of in named.items()]
    lines += ["", "[[operations]]", f"include-name = {json.dumps(NOT_SAYABLE)}"]
    lines += ["checks.positive_data_acceptance.enabled = false"]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=10.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same requests.")
def main(minutes: float, seed: int) -> None:
    """Fuzz the API for so many minutes."""
    with tempfile.TemporaryDirectory() as name, Guard() as guard:
        folder = Path(name)
        postgres = EmbeddedPostgres(folder / "postgres", guard, durable=False)
        url = postgres.start()
        try:
            migrate(url)
            with live_api(guard, url, folder) as api:
                outcome = fuzz(api, folder, seed=seed, duration_s=round(minutes * 60))
        finally:
            postgres.stop()
    click.echo(outcome.report)
    click.echo(f"seed {seed}, {minutes:g} min: {outcome}")
    sys.exit(0 if outcome.is_good else 1)


if __name__ == "__main__":
    main()
