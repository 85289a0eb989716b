"""Receiving a file from servers that break off."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services import client as client_module
from services.client import ApiError, Client, NoAnswer

DATA = bytes(range(256)) * 1000


class Flaky:
    """Sends DATA and breaks off after so many bytes of each answer; `takes_ranges`: whether it goes on where asked."""

    def __init__(self) -> None:
        self.breaks_after: list[int] = []
        self.takes_ranges = True
        self.asked: list[str | None] = []
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                flaky.asked.append(wanted)
                found = re.fullmatch(r"bytes=(\d+)-", wanted or "")
                first = int(found[1]) if found and flaky.takes_ranges else 0
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(DATA) - first))
                self.end_headers()
                limit = flaky.breaks_after.pop(0) if flaky.breaks_after else len(DATA)
                self.wfile.write(DATA[first : first + limit])
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def flaky(monkeypatch) -> Iterator[Flaky]:
    monkeypatch.setattr(client_module, "POLL_INTERVAL_S", 0.01)
    flaky = Flaky()
    thread = threading.Thread(target=flaky.server.serve_forever, args=(0.01,))
    thread.start()
    yield flaky
    flaky.server.shutdown()
    flaky.server.server_close()
    thread.join()


def export(size_bytes: int = len(DATA)) -> dict:
    return {"size_bytes": size_bytes, "links": {"file": "/api/v1/exports/x/file"}}


def test_what_breaks_off_goes_on_where_it_broke(flaky):
    flaky.breaks_after = [100_000, 100_000]
    writer, counted = io.BytesIO(), []
    Client(flaky.url).download(export(), writer, counted.append)
    assert writer.getvalue() == DATA and sum(counted) == len(DATA)
    assert flaky.asked[0] is None and len(flaky.asked) == 3
    assert all(re.fullmatch(r"bytes=[1-9]\d+-", wanted) for wanted in flaky.asked[1:])


def test_a_server_that_knows_no_parts_is_asked_for_the_whole_again(flaky):
    flaky.takes_ranges, flaky.breaks_after = False, [100_000]
    writer = io.BytesIO()
    Client(flaky.url).download(export(), writer)
    assert writer.getvalue() == DATA


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_a_server_from_which_no_more_comes_is_given_up(flaky, takes_ranges):
    flaky.takes_ranges, flaky.breaks_after = takes_ranges, [70_000, 0 if takes_ranges else 70_000, 0]
    with pytest.raises(NoAnswer, match="ended the connection"):
        Client(flaky.url).download(export(), io.BytesIO())


def test_a_file_of_another_size_is_not_taken_for_whole(flaky):
    with pytest.raises(ApiError, match="bytes came"):
        Client(flaky.url).download(export(len(DATA) - 1), io.BytesIO())
