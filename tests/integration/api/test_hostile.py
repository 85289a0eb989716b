"""Strings, sizes and shapes that are sent to do harm, through the API and the pages."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from sqlalchemy import text

from services.api.app import create_app
from shared.clean_text import one_clean_line
from shared.errors import ErrorKind
from shared.logs import LineFormatter

pytestmark = pytest.mark.integration

BROWSER = {"Accept": "text/html,*/*;q=0.8"}
#: Every one of these is text, and has to come out as that text.
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)",
    "javascript:alert(4)",
    "</title><svg onload=alert(5)>",
    "{{ 7 * 7 }}{% raw %}",
    "${7*7}%s%(x)s{0}",
    "../../etc/passwd",
    "a\r\nSet-Cookie: x=1",
    "\u202egnp.exe",
    "'; DROP TABLE jobs; --",
    "&lt;b&gt;",
    "\x1b[31mred",
    "x" * 200,
]


class Seen(HTMLParser):
    """Tags and attributes that a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def harmless(html: str) -> Seen:
    """The page, which runs nothing but our own scripts and leads nowhere by a scheme of its own."""
    seen = Seen(html)
    for tag, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert "style" not in attributes
        assert tag != "script" or (attributes.get("src") or "").startswith("/static/")
        for name in ("href", "src", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "#", "http://", "https://")), (tag, attributes)
    assert "49{% raw" not in html
    return seen


def test_hostile_text_comes_out_as_text(client):
    """Names of jobs and files, through a form and the API, on every page that shows them, cleaned at the door."""
    for hostile in HOSTILE:
        submit_and_look(client, hostile)


def submit_and_look(client, hostile: str) -> None:
    upload = client.post(
        "/api/v1/uploads", query_string={"file_name": hostile}, data=b"1", content_type="application/octet-stream"
    ).json
    assert "/" not in upload["file_name"] and upload["file_name"].isprintable()
    form = client.post("/api/v1/uploads", data={"file": (io.BytesIO(b"1"), hostile.replace("\r\n", " "))})
    assert form.status_code == 201
    answer = client.post("/api/v1/jobs", json={"videos": [upload["url"]], "models": ["hog_color"], "name": hostile})
    assert answer.status_code == 202
    assert answer.json["name"] == one_clean_line(hostile)
    assert answer.json["name"].isprintable()
    page = harmless(client.get(f"/jobs/{answer.json['id']}", headers=BROWSER).text)
    words = " ".join("".join(page.words).split())
    assert answer.json["name"] in words
    assert upload["file_name"] in "".join(page.words)
    listed = harmless(client.get("/", headers=BROWSER).text)
    assert answer.json["name"] in " ".join("".join(listed.words).split())
    harmless(client.get("/search", headers=BROWSER).text)
    refused = client.post("/jobs", data={"videos": hostile, "name": hostile, "models": hostile}, headers=BROWSER)
    assert refused.status_code == 422
    harmless(refused.text)


def test_hostile_text_from_a_site_comes_out_as_text(client, submit, workers, database):
    """Titles, reasons and notes, which workers write and pages show."""
    everything = "".join(HOSTILE[:-1])
    job = submit(["https://example.org/%3Cscript%3E.mp4?\"'<b>", "https://example.org/gone"])
    workers.fail(job["id"], ErrorKind.NOT_FOUND, everything)
    workers.finish(job["id"])
    with database.transaction() as connection:
        connection.execute(text("UPDATE sources SET title = :t"), {"t": everything})
        connection.execute(text("UPDATE clusterings SET notes = :t"), {"t": json.dumps([everything])})
        connection.execute(
            text("UPDATE models SET problem = :t, problem_at = now() WHERE name = 'tiny'"), {"t": everything}
        )
    clustering = client.get(job["links"]["clusterings"]).json["clusterings"][0]
    cluster = client.get(clustering["links"]["clusters"]).json["clusters"][0]
    pages = ["/", f"/jobs/{job['id']}", clustering["links"]["page"], cluster["links"]["page"]]
    for path in [*pages, f"/key-frames/{cluster['medoid']['id']}"]:
        answer = client.get(path, headers=BROWSER)
        assert answer.status_code == 200
        assert "alert(1)" in "".join(harmless(answer.text).words), path


ADDRESSES = [
    *("/<script>alert(1)</script>", "/jobs/%3Csvg%20onload=alert(1)%3E", "/jobs/..%2f..%2fetc", "/jobs/" + "a" * 2000),
    *("/static/../../etc/passwd", "/static/%2e%2e/app.py", "/static/..%2f..%2fapp.py", "/static//etc/passwd"),
    *("/api/v1/docs/..%2f..%2f__init__.py", "/api/v1/docs/swagger-ui.css%00.js", "/%00", "/%ff%fe"),
    "/key-frames/1%0d%0aX-Evil: 1",
]


@pytest.mark.parametrize("path", ADDRESSES, ids=range(len(ADDRESSES)))
def test_hostile_addresses_are_not_found(standing_client, path):
    with standing_client.get(path, headers=BROWSER) as answer:
        assert answer.status_code in (404, 308), path
        assert "X-Evil" not in answer.headers
        assert answer.status_code == 404 or answer.location.startswith("http://localhost/")
        if answer.status_code == 404:
            harmless(answer.text)
            assert "root:" not in answer.text and "import annotations" not in answer.text


@pytest.mark.parametrize(
    "name", ["X-Request-ID", "Idempotency-Key", "If-None-Match", "Accept", "Content-Type", "Prefer", "Range", "Cookie"]
)
def test_hostile_headers_are_refused_or_ignored_and_never_repeated(standing_client, name):
    for value in (
        "<script>",
        "a\tb",
        "ÿ" * 50,
        "x" * 8000,
        "../..",
        "bytes=0-,0-,0-",
        "W/" * 100,
        "{}",
        "%0d%0aX-Evil: 1",
    ):
        answer = standing_client.post("/api/v1/jobs", data="{}", headers={name: value})
        assert answer.status_code in (400, 415, 422, 431), (name, value)
        assert value not in str(answer.headers)
        assert "X-Evil" not in answer.headers


def test_hostile_paths_begin_no_line_in_the_log_and_steer_no_terminal(standing_client, caplog):
    caplog.set_level(logging.INFO)
    standing_client.get("/x%0a2026-01-01T00:00:00Z%20ERROR%20api:%20forged%0d%1b[31m%e2%80%a8%c2%85")
    [line] = [LineFormatter("api").format(record) for record in caplog.records if "forged" in record.getMessage()]
    assert line.isprintable()
    assert r"/x\n2026" in line and r"\x1b[31m\u2028\x85" in line


# --- Sizes and shapes ---------------------------------------------------------------------------------------------


def multipart(parts: int, *, name: str = "videos", value: str = "x") -> dict[str, object]:
    part = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
    return {"data": (part * parts + "--b--\r\n").encode(), "content_type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize("path", ["/api/v1/search", "/api/v1/uploads", "/jobs", "/search"])
def test_a_form_of_ten_thousand_parts_is_not_read_to_its_end(standing_client, path):
    answer = standing_client.post(path, **multipart(10_000), headers=BROWSER)
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/api/v1/search", "/api/v1/uploads", "/jobs", "/search"])
@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 5000],
)
def test_a_form_that_is_none_is_refused(standing_client, path, content_type):
    answer = standing_client.post(path, data=b"--b\r\n\r\n\0\xff", content_type=content_type, headers=BROWSER)
    assert answer.status_code in (400, 413, 422, 431)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"videos": ' + "[" * 40_000 + "]" * 40_000 + "}", 400),
        ('{"videos": ' + "[" * 60_000 + "]" * 60_000 + "}", 413),
        ('{"videos": [' + "1," * 60_000 + "1]}", 413),
        ('{"videos": ["https://a.example/"], "clustering": ' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "}", 400),
        ('{"videos": [' + '"https://a.example/",' * 10_000 + '"https://a.example/"]}', 413),
        ('{"videos": ["' + "a" * 3_000_000 + '"]}', 422),
        ('{"videos": ["https://a.example/"], "models": [' + '"m",' * 100 + '"m"]}', 422),
        ('{"videos": ["https://a.example/"], "models": ["' + "m" * 201 + '"]}', 422),
        ('{"videos": ["https://a.example/"], "name": "' + "n" * 201 + '"}', 422),
        ('{"videos": ["https://a.example/"], "clustering": {"algorithm": "' + "n" * 1_000_000 + '"}}', 422),
        ('{"videos": ["https://a.example/"], "clustering": {"' + "n" * 1_000_000 + '": 1}}', 422),
        ('{"videos": ["https://a.example/"], "key_frames": {"every_s": 1e999}}', 422),
        ('{"videos": ["https://a.example/"], "clustering": {"n_clusters": ' + "9" * 4000 + "}}", 422),
        ('{"videos": ["https://a.example/"], "videos": 7}', 422),
        ('{"videos": ["https://a.example/\\ud800"]}', 422),
        ('{"' + "x" * 7_000_000 + '": 1}', 422),
        (" " * 9_000_000, 413),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, int) else "",
)  # fmt: skip
def test_a_body_that_is_too_much_is_refused_in_a_short_answer(standing_client, body, status):
    answer = standing_client.post("/api/v1/jobs", data=body, content_type="application/json")
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert len(answer.data) < 10_000


def test_a_search_for_too_many_jobs_is_refused(standing_client):
    ids = ["00000000-0000-4000-8000-000000000000"] * 101
    body = {"key_frame_id": ids[0], "jobs": ids}
    assert standing_client.post("/api/v1/search", json=body).status_code == 422
    assert standing_client.get(f"/api/v1/searches/{ids[0]}", query_string={"jobs": ",".join(ids)}).status_code == 422


# --- What every answer says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/search", "/nowhere", "/livez", "/readyz", "/api/v1/jobs", "/api/v1/openapi.json"),
        *("/static/reelmap.css", "/api/v1/docs/swagger-ui.css"),
    ],
)
def test_every_answer_lets_browsers_load_nothing_from_elsewhere(standing_client, path):
    with standing_client.get(path, headers=BROWSER) as answer:
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        headers = answer.headers
    assert policy == {
        "default-src": "'none'",
        **{name: "'self'" for name in ("script-src", "style-src", "img-src", "connect-src", "form-action")},
        **{name: "'none'" for name in ("frame-ancestors", "base-uri")},
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    if headers["Content-Type"].startswith("text/html"):
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]


def test_only_the_page_of_the_documentation_may_style_itself(standing_client):
    policy = standing_client.get("/api/v1/docs").headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "style-src 'self' 'unsafe-inline'" in policy
    assert "default-src 'none'" in policy


def test_what_a_key_may_see_is_kept_by_no_cache_that_others_share(closed_app, with_key):
    client = with_key("admin")
    for rule in closed_app.url_map.iter_rules():
        if "GET" in rule.methods and not rule.arguments:
            with client.get(rule.rule, headers=BROWSER) as answer:
                assert answer.cache_control.private or answer.cache_control.no_store, rule.rule
                assert not answer.cache_control.public


# --- The database is away -------------------------------------------------------------------------------------------


@pytest.fixture
def mute():
    """The port of a server that takes connections and never says a word, as behind a network that lost its way."""
    server = socket.create_server(("127.0.0.1", 0))
    held = []

    def accept() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in held:
        connection.close()


def test_a_database_that_says_nothing_is_told_within_seconds_to_programs_and_people(with_keys, mute):
    app = create_app(replace(with_keys, database_url=f"postgresql+psycopg2://x@127.0.0.1:{mute}/x"))
    key = "rmk_00000000_" + "0" * 64
    asked_at = time.monotonic()
    answers = []
    asking = [
        threading.Thread(target=lambda ask=ask: answers.append(ask(app.test_client())))
        for ask in (
            lambda client: client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {key}"}),
            lambda client: client.get("/readyz"),
            lambda client: client.post("/sign-in", data={"key": key}, headers=BROWSER),
        )
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert time.monotonic() - asked_at < 6
    assert [answer.status_code for answer in answers] == [503] * 3
    assert {answer.headers["Retry-After"] for answer in answers} == {"5"}
    assert sorted(answer.mimetype for answer in answers) == ["application/problem+json"] * 2 + ["text/html"]
    assert app.test_client().get("/livez").status_code == 200
