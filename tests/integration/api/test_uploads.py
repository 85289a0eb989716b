"""Uploads over HTTP: to disk while they are read, then into the blob store, then into a row."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from services.api.app import create_app
from services.api.form_files import MEMORY_BYTES
from services.api.problems import Malformed

pytestmark = pytest.mark.integration

CONTENT = b"moving pictures" * 1000


def blobs(service) -> list[str]:
    return [entry.name for entry in service.blobs.entries("")]


def test_a_raw_body_becomes_an_upload_that_a_job_can_use(client, service, submit):
    answer = client.post("/api/v1/uploads?file_name=holiday.mp4", data=CONTENT, content_type="application/octet-stream")
    upload = answer.json
    assert answer.status_code == 201
    assert upload == {
        "id": upload["id"],
        "url": f"upload:{upload['id']}",
        "size_bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "file_name": "holiday.mp4",
    }
    assert [service.blobs.read(name) for name in blobs(service)] == [CONTENT]
    job = submit([upload["url"], "https://example.org/a.mp4"])
    source = client.get(job["links"]["sources"]).json["sources"][0]
    assert (source["url"], source["title"]) == (upload["url"], "holiday.mp4")


def test_a_form_is_taken_too(client, service):
    answer = client.post("/api/v1/uploads", data={"file": (io.BytesIO(CONTENT), "../clips/été 1.mp4")})
    assert (answer.status_code, answer.json["file_name"]) == (201, "été 1.mp4")
    assert answer.json["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert [service.blobs.read(name) for name in blobs(service)] == [CONTENT]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", "upload"),
        ("../../etc/passwd", "passwd"),
        ("C:\\clips\\a.mp4", "a.mp4"),
        ("a\nb\x1b[31m.mp4", "a b[31m.mp4"),
        ("gpj\u202e.mp4", "gpj.mp4"),
        ("..", "upload"),
        ("x" * 250 + ".mp4", "x" * 196 + ".mp4"),
    ],
)
def test_a_file_name_is_never_trusted(client, given, kept):
    answer = client.post(
        "/api/v1/uploads", query_string={"file_name": given}, data=b"1", content_type="application/octet-stream"
    )
    assert (answer.status_code, answer.json["file_name"]) == (201, kept)


class Endless(io.RawIOBase):
    """A body without an announced length, which counts what was read of it."""

    def __init__(self) -> None:
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        size = min(len(buffer), 65536)
        self.given += size
        return size


def test_a_body_that_does_not_end_is_cut_off_at_the_limit_while_it_is_read(client, service):
    body = Endless()
    answer = client.post(
        "/api/v1/uploads",
        content_type="application/octet-stream",
        environ_overrides={"wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")
    assert body.given < 1_000_000
    assert blobs(service) == []
    assert list(service.settings.work_folder.iterdir()) == []


def test_a_file_above_the_limit_is_refused_however_it_is_sent(client, service):
    too_large = b"\0" * 100_001
    raw = client.post("/api/v1/uploads", data=too_large, content_type="application/octet-stream")
    form = client.post("/api/v1/uploads", data={"file": (io.BytesIO(too_large), "a")})
    announced = client.post("/api/v1/uploads", data=b"\0" * 300_000, content_type="application/octet-stream")
    assert [answer.status_code for answer in (raw, form, announced)] == [413, 413, 413]
    assert blobs(service) == []


@pytest.fixture
def roomy_app(settings):
    """The application, taking files that do not stay in memory."""
    app = create_app(replace(settings, max_upload_bytes=2 * MEMORY_BYTES))
    yield app
    app.extensions["reelmap"].database.dispose()


def large_form(field: str, *, end: bytes = b"\r\n--x--\r\n") -> dict:
    """A form with a file that does not stay in memory, as arguments of a request."""
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="a.mp4"\r\n\r\n'.encode()
    return {"data": head + b"\0" * (MEMORY_BYTES + 1) + end, "content_type": "multipart/form-data; boundary=x"}


def test_a_large_file_of_a_form_lies_in_the_work_folder_until_the_request_ends(roomy_app, service):
    with roomy_app.test_request_context("/api/v1/uploads", method="POST", **large_form("file")) as context:
        assert context.request.files["file"].stream.seek(0, os.SEEK_END) == MEMORY_BYTES + 1
        spool = context.request._form_files.spool
        at = Path(os.readlink(f"/proc/self/fd/{spool.fileno()}"))
        assert at.is_relative_to(service.settings.work_folder)
    assert spool.closed
    assert list(service.settings.work_folder.iterdir()) == []


def test_a_large_file_of_a_form_that_breaks_off_is_closed_too(roomy_app):
    broken = large_form("file", end=b"\0" * MEMORY_BYTES)
    with roomy_app.test_request_context("/api/v1/uploads", method="POST", **broken) as context:
        with pytest.raises(Malformed):
            _ = context.request.files
        spool = context.request._form_files.spool
        assert not spool.closed
    assert spool.closed


def test_a_form_becomes_an_upload_when_its_file_was_on_disk(roomy_app, service):
    answer = roomy_app.test_client().post("/api/v1/uploads", **large_form("file"))
    assert (answer.status_code, answer.json["size_bytes"]) == (201, MEMORY_BYTES + 1)
    assert list(service.settings.work_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "field"),
    [("/api/v1/uploads", "file"), ("/api/v1/search", "picture"), ("/jobs", "files"), ("/search", "picture")],
)
def test_a_form_for_whose_file_the_disk_has_no_room_is_a_problem_that_passes(roomy_app, monkeypatch, address, field):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **named: io.BufferedRandom(io.FileIO("/dev/full", "r+")))
    answer = roomy_app.test_client().post(address, **large_form(field))
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert "no room for the file on the server's disk" in answer.json["detail"]
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize("size", [10, 90_000])
def test_a_body_for_which_the_disk_has_no_room_is_a_problem_that_passes(client, service, monkeypatch, size):
    make = tempfile.mkdtemp

    def full(**named: object) -> str:
        folder = make(**named)
        Path(folder, "file").symlink_to("/dev/full")
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    answer = client.post("/api/v1/uploads", data=b"\0" * size, content_type="application/octet-stream")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert "no room for the file on the server's disk" in answer.json["detail"]
    assert list(service.settings.work_folder.iterdir()) == []


def test_an_upload_whose_connection_broke_is_not_taken_for_a_whole_file(client, service):
    answer = client.post(
        "/api/v1/uploads",
        content_type="application/octet-stream",
        # As gunicorn hands it on: the body just ends.
        environ_overrides={"wsgi.input": io.BytesIO(b"abc"), "wsgi.input_terminated": True, "CONTENT_LENGTH": "1000"},
    )
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    assert "3 of 1000 bytes" in answer.json["detail"]
    assert blobs(service) == []


def test_an_empty_file_and_a_form_without_one_are_refused(client):
    empty = client.post("/api/v1/uploads", data=b"", content_type="application/octet-stream")
    without = client.post("/api/v1/uploads", data={"other": "x"}, content_type="multipart/form-data")
    for answer in (empty, without):
        assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "file")


def test_an_upload_goes_with_the_last_job_that_uses_it(client, service, submit, database):
    url = client.post("/api/v1/uploads", data=CONTENT, content_type="application/octet-stream").json["url"]
    first, second = submit([url])["id"], submit([url])["id"]
    client.delete(f"/api/v1/jobs/{first}")
    assert len(blobs(service)) == 1
    client.delete(f"/api/v1/jobs/{second}")
    assert blobs(service) == []
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM uploads")).scalar() == 0


def test_an_upload_that_is_being_submitted_is_not_deleted_with_another_job(app, client, submit, database):
    from services.api.commands import jobs as commands
    from services.api.schemas.requests import JobRequest
    from shared.tables import DEFAULT_PROJECT_ID

    url = client.post("/api/v1/uploads", data=CONTENT, content_type="application/octet-stream").json["url"]
    first = submit([url])["id"]
    settings = app.extensions["reelmap"].settings
    with database.transaction() as connection:
        commands.submit_job(connection, DEFAULT_PROJECT_ID, settings, JobRequest(videos=[url], models=["hog_color"]))
        deleting = threading.Thread(target=lambda: app.test_client().delete(f"/api/v1/jobs/{first}"))
        deleting.start()
        deleting.join(0.3)
        assert deleting.is_alive()
    deleting.join(10)
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM jobs")).scalar() == 1
        assert connection.execute(text("SELECT count(*) FROM uploads")).scalar() == 1


def test_an_upload_of_another_project_cannot_be_used(client, database):
    url = client.post("/api/v1/uploads", data=CONTENT, content_type="application/octet-stream").json["url"]
    with database.transaction() as connection:
        connection.execute(
            text(
                """WITH other AS (INSERT INTO projects (name) VALUES ('other') RETURNING id)
                UPDATE uploads SET project_id = other.id FROM other"""
            )
        )
    answer = client.post("/api/v1/jobs", json={"videos": [url], "models": ["hog_color"]})
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "videos.0")
