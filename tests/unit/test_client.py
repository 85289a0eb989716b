"""The client against a server that plays the API's part, also the parts that the API plays only on a bad day."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from services import client as client_module
from services.cli import commands
from services.client import ApiError, Client

Answer = tuple[int, Any]


class Played:
    """Answers requests by a function of (method, path, query, body); a body that is no JSON value is sent as it is."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str, dict[str, str], bytes], Answer] = lambda *_: (500, {})
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.answer_headers: dict[str, str] = {}
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = (self.command, parts.path, query, body)
                played.requests.append(request)
                played.headers.append(dict(self.headers))
                try:
                    status, value = played.answer(*request)
                except ConnectionAbortedError:  # played: the server goes away before it answers
                    self.close_connection = True
                    return
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for name, text in played.answer_headers.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_DELETE = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def played() -> Iterator[Played]:
    played = Played()
    thread = threading.Thread(target=played.server.serve_forever, args=(0.01,))
    thread.start()
    yield played
    played.server.shutdown()
    played.server.server_close()
    thread.join()


def problem(status: int, detail: str, *errors: dict[str, str]) -> Answer:
    return status, {"type": "about:blank", "title": "Bad", "status": status, "detail": detail, "errors": list(errors)}


def test_a_problem_document_becomes_its_sentence_and_the_fields_it_names(played: Played) -> None:
    played.answer = lambda *_: problem(422, "The request is wrong.", {"field": "models.0", "message": "no such model"})
    with pytest.raises(ApiError) as raised:
        Client(played.url).submit(["https://example.org/a.mp4"], models=["x"])
    assert str(raised.value) == "The request is wrong.\n  models.0: no such model"
    assert raised.value.status == 422


def test_a_problem_document_that_says_it_in_its_detail_says_it_once(played: Played) -> None:
    played.answer = lambda *_: problem(422, "name: too long", {"field": "name", "message": "too long"})
    with pytest.raises(ApiError, match=r"^name: too long$"):
        Client(played.url).submit(["https://example.org/a.mp4"], name="x")
    played.answer = lambda *_: problem(404, "There is no job 7.", {"field": "job_id", "message": "There is no job 7."})
    with pytest.raises(ApiError, match=r"^There is no job 7\.$"):
        Client(played.url).job("7")


def test_an_answer_that_is_no_problem_document_still_says_what_happened(played: Played) -> None:
    played.answer = lambda *_: (502, b"<html>bad gateway</html>")
    with pytest.raises(ApiError, match="answered 502 Bad Gateway"):
        Client(played.url).models()


def test_a_server_that_is_no_reelmap_is_told_from_one(played: Played) -> None:
    played.answer = lambda *_: (200, b"<html>hello</html>")
    with pytest.raises(ApiError, match="Is that a Reelmap"):
        Client(played.url).job("1")


def test_where_nothing_listens_the_error_says_how_to_start_it(played: Played) -> None:
    played.server.shutdown()
    played.server.server_close()
    with pytest.raises(ApiError, match="Start one with `reelmap up`") as raised:
        Client(played.url).job("1")
    assert raised.value.status is None


def test_a_server_address_that_is_none_is_an_error_and_no_traceback() -> None:
    with pytest.raises(ApiError, match="not the address of a server"):
        Client("http://").job("1")


def test_a_list_is_read_page_after_page_up_to_the_limit(played: Played) -> None:
    def pages(_method: str, _path: str, query: dict[str, str], _body: bytes) -> Answer:
        first = int(query.get("cursor", 0))
        size = min(int(query["limit"]), 3)
        return 200, {"jobs": [{"id": i} for i in range(first, first + size)], "next_cursor": str(first + size)}

    played.answer = pages
    assert [job["id"] for job in Client(played.url).jobs(limit=7)] == list(range(7))
    assert [query["limit"] for _, _, query, _ in played.requests] == ["7", "4", "1"]


def test_a_list_ends_where_the_server_says_so(played: Played) -> None:
    played.answer = lambda *_: (200, {"sources": [{"id": 1}], "next_cursor": None})
    assert list(Client(played.url).sources("j")) == [{"id": 1}]
    assert len(played.requests) == 1


def test_more_urls_than_one_call_takes_are_added_call_by_call(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "URLS_PER_CALL", 2)
    played.answer = lambda _method, path, _query, _body: (202, {"id": "j", "path": path})
    job = Client(played.url).submit(["a", "b", "c", "d", "e"], name="n", models=[], clustering={})
    assert [(path, json.loads(body)) for _, path, _, body in played.requests] == [
        ("/api/v1/jobs", {"videos": ["a", "b"], "name": "n"}),
        ("/api/v1/jobs/j/sources", {"videos": ["c", "d"]}),
        ("/api/v1/jobs/j/sources", {"videos": ["e"]}),
    ]
    assert job["path"] == "/api/v1/jobs/j/sources"


@pytest.mark.parametrize("size_bytes", [0, 1, 300_000])
def test_an_upload_sends_the_bytes_and_counts_them(played: Played, tmp_path, size_bytes: int) -> None:
    played.answer = lambda *_: (201, {"url": "upload:1"})
    file = tmp_path / "a clip & more.mp4"
    file.write_bytes(b"x" * size_bytes)
    counted: list[int] = []
    assert Client(played.url).upload(file, counted.append) == {"url": "upload:1"}
    [(_, path, query, body)] = played.requests
    assert (path, query, len(body)) == ("/api/v1/uploads", {"file_name": file.name}, size_bytes)
    assert sum(counted) == size_bytes


def test_following_a_job_outlasts_a_server_that_is_away_for_a_moment(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "POLL_INTERVAL_S", 0.001)
    answers = iter(
        [(200, {"state": "queued"}), (200, {"state": "running"}), (503, b"restarting"), (200, {"state": "succeeded"})]
    )
    played.answer = lambda *_: next(answers)
    assert [job["state"] for job in Client(played.url).follow("j")] == ["queued", "running", "succeeded"]


def test_following_a_job_ends_when_it_is_deleted(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "POLL_INTERVAL_S", 0.001)
    answers = iter([(200, {"state": "running"}), problem(404, "There is no job j.")])
    played.answer = lambda *_: next(answers)
    with pytest.raises(ApiError, match="There is no job j"):
        list(Client(played.url).follow("j"))


def test_a_proxy_for_the_web_is_not_asked_for_a_server_on_this_machine(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    played.answer = lambda *_: (200, {"models": []})
    assert Client(played.url).models() == []


KEY = "rmk_00000000_" + "0" * 64


def test_the_key_goes_to_its_own_server_and_to_no_other(played: Played) -> None:
    played.answer = lambda *_: (200, {"models": []})
    Client(played.url, KEY).models()
    assert played.headers[-1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(played.requests)
    Client("http://reelmap.example", KEY).picture(f"{played.url}/elsewhere.jpg")
    assert "Authorization" not in played.headers[-1]
    Client(played.url).models()
    assert "Authorization" not in played.headers[-1]


def test_a_server_that_asks_for_a_key_is_answered_with_what_to_do(played: Played) -> None:
    played.answer = lambda *_: problem(401, "This Reelmap asks for a key.")
    with pytest.raises(ApiError, match="Set REELMAP_KEY to a key of yours") as raised:
        Client(played.url).models()
    assert raised.value.status == 401
    with pytest.raises(ApiError, match="It is the key in REELMAP_KEY") as raised:
        Client(played.url, KEY).models()
    assert KEY not in str(raised.value)
    played.answer = lambda *_: problem(403, "The key 'ci' has the role reader; this needs the role writer.")
    with pytest.raises(ApiError, match=r"^The key 'ci' has the role reader; this needs the role writer\.$"):
        Client(played.url, KEY).models()


@pytest.mark.parametrize("key", ["rmk_\n", "a\r\nX-Evil: 1", "rmk_…"])
def test_a_key_that_cannot_be_sent_is_an_error_and_no_traceback(played: Played, key: str) -> None:
    with pytest.raises(ApiError, match="characters that no key has"):
        Client(played.url, key).models()
    assert played.requests == []


def test_a_server_that_is_asked_too_often_is_asked_again_when_it_says(played: Played, tmp_path) -> None:
    played.answer_headers = {"Retry-After": "0"}
    answers = iter([(429, b"slowly"), (429, b"slowly"), (201, {"url": "upload:1"})])
    played.answer = lambda *_: next(answers)
    file = tmp_path / "a.mp4"
    file.write_bytes(b"x" * 100_000)
    counted: list[int] = []
    waits_s: list[float] = []
    assert Client(played.url, on_wait=waits_s.append).upload(file, counted.append) == {"url": "upload:1"}
    assert waits_s == [0.0]  # two waits, told once
    assert [len(body) for _, _, _, body in played.requests] == [100_000] * 3
    assert sum(counted) == 100_000


def test_a_command_says_once_that_it_waits_and_keeps_it_out_of_its_result(played: Played) -> None:
    played.answer_headers = {"Retry-After": "0"}
    answers = iter([(429, b"slowly"), (429, b"slowly"), (200, {"jobs": [], "next_cursor": None})])
    played.answer = lambda *_: next(answers)
    result = CliRunner().invoke(commands, ["jobs", "--json", "--server", played.url])
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"jobs": []})
    assert result.stderr == "The server is asked too often; going on in 0 s, as it asks.\n"


def test_a_server_that_is_always_asked_too_often_is_given_up(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.0)
    played.answer = lambda *_: problem(429, "This key asks more than 5 times a minute.")
    with pytest.raises(ApiError, match="5 times a minute"):
        Client(played.url).models()


CREATING: list[Callable[[Client], Any]] = [
    lambda client: client.submit(["a"]),
    lambda client: client.add_videos("j", ["a"]),
    lambda client: client.add_models("j", ["m"]),
    lambda client: client.cluster_again("j", {"model": "m"}),
]


@pytest.mark.parametrize("create", CREATING, ids=["submit", "add videos", "add models", "cluster again"])
@pytest.mark.parametrize("first", ["lost", "unavailable"])
def test_what_is_asked_for_once_is_sent_again_under_the_same_key(
    played: Played, monkeypatch: pytest.MonkeyPatch, create: Callable[[Client], Any], first: str
) -> None:
    monkeypatch.setattr(client_module, "POLL_INTERVAL_S", 0.001)

    def answer(*_request: object) -> Answer:
        if len(played.requests) > 1:
            return 202, {"id": "j"}
        if first == "lost":
            raise ConnectionAbortedError
        return 503, b"not now"

    played.answer = answer
    assert create(Client(played.url)) == {"id": "j"}
    assert played.requests[0] == played.requests[1]
    first_key, second_key = (headers["Idempotency-Key"] for headers in played.headers)
    assert first_key == second_key
    create(Client(played.url))
    assert played.headers[-1]["Idempotency-Key"] != first_key


def test_what_stays_without_an_answer_is_given_up_and_looking_is_not_repeated(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "POLL_INTERVAL_S", 0.001)
    played.answer = lambda *_: problem(503, "The database does not answer right now.")
    with pytest.raises(ApiError, match="does not answer right now"):
        Client(played.url).submit(["a"])
    assert len(played.requests) == 2
    with pytest.raises(ApiError, match="does not answer right now"):
        Client(played.url).job("j")
    assert len(played.requests) == 3


@pytest.mark.parametrize(
    ("jobs", "example", "said"),
    [
        (["1"], ["--key-frame", "k"], "no other key frame of this job has a vector of hog_color"),
        (["1", "2"], ["--picture", "PICTURE"], "no key frame of these jobs has a vector of hog_color"),
    ],
)
def test_a_search_where_there_is_nothing_says_so(played: Played, tmp_path, jobs, example, said) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"x")
    example = [str(tmp_path / "picture.jpg") if word == "PICTURE" else word for word in example]

    def answer(method: str, path: str, *_: Any) -> Answer:
        return (200, {"results": [], "model": "hog_color"}) if path.endswith("/search") else (200, {"id": path[-1]})

    played.answer = answer
    result = CliRunner().invoke(commands, ["search", *jobs, *example, "--server", played.url])
    assert result.exit_code == 1
    assert said in result.stderr
