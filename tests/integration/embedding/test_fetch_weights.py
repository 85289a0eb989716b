"""The command that fills the weights folder, against a server that speaks as the hub does."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shared.startup import EXIT_REFUSED

COMMIT = "c0ffee" + 34 * "0"
FILES = {
    "config.json": b"{}",
    "preprocessor_config.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "model.onnx": b"of no use here",
}
OWN_MODELS = json.dumps({"net": {"library": "transformers", "weights": "someone/net", "pooling": "class_token"}})


class _Hub(BaseHTTPRequestHandler):
    fetched: Counter[str]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        if self.path.startswith("/api/models/someone/net/tree/"):
            tree = [{"type": "file", "path": name, "size": len(FILES[name]), "oid": name} for name in FILES]
            body, etag = json.dumps(tree).encode(), "tree"
        elif self.path.startswith("/api/models/someone/net"):
            siblings = [{"rfilename": name} for name in FILES]
            body, etag = json.dumps({"id": "someone/net", "sha": COMMIT, "siblings": siblings}).encode(), "repository"
        elif self.path.startswith("/someone/net/resolve/"):
            name = self.path.rpartition("/")[2]
            body, etag = FILES[name], name
            self.fetched[name] += self.command == "GET"
        else:
            self.send_error(404)
            return b""
        self.send_response(200)
        for header, value in (("Content-Length", len(body)), ("ETag", f'"{etag}"'), ("X-Repo-Commit", COMMIT)):
            self.send_header(header, str(value))
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, Counter[str]]]:
    """Its address, and how often each of its files was fetched."""
    fetched: Counter[str] = Counter()
    handler = type("Handler", (_Hub,), {"fetched": fetched})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", fetched
        server.shutdown()


def fetch(folder: Path, address: str, *models: str, **more: str) -> subprocess.Popen[str]:
    environ = {"HF_ENDPOINT": address, "HOME": str(folder.parent), "REELMAP_WEIGHTS_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "services.embedding.fetch_weights", *models],
        env={**environ, "REELMAP_OWN_MODELS": OWN_MODELS, **more},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_several_at_once_fetch_each_file_once_and_leave_nothing_else(tmp_path, hub):
    folder, (address, fetched) = tmp_path / "weights", hub
    at_once = [fetch(folder, address, "net") for _ in range(3)]
    for each in at_once:
        _, said = each.communicate(timeout=60)
        assert each.returncode == 0, said
    wanted = {name: content for name, content in FILES.items() if name != "model.onnx"}
    assert fetched == dict.fromkeys(wanted, 1)
    assert {path.name: path.read_bytes() for path in (folder / "someone" / "net").iterdir()} == wanted
    assert sorted(path.name for path in folder.iterdir()) == [".fetching", "someone"]


def test_what_cannot_be_had_is_said_by_name_and_leaves_nothing(tmp_path):
    folder = tmp_path / "weights"
    asked = fetch(folder, "http://127.0.0.1:9", "net", "hog_color")
    _, said = asked.communicate(timeout=60)
    assert asked.returncode == EXIT_REFUSED
    assert "The weights of net could not be fetched: " in said
    assert [path.name for path in folder.iterdir()] == [".fetching"]


def test_what_is_there_is_enough_in_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "someone" / "net").mkdir(parents=True)
    asked = fetch(tmp_path, "http://127.0.0.1:9", "net", "hog_color")
    _, said = asked.communicate(timeout=60)
    assert asked.returncode == 0, said
    assert "nothing to fetch: net, hog_color are there" in said
    assert [path.name for path in tmp_path.iterdir()] == ["someone"], "not even a lock"


@pytest.mark.parametrize(
    ("models", "more", "sentence"),
    [
        (("nett",), {}, "There is no model nett; there are "),
        (
            ("net",),
            {"REELMAP_HUB": "no"},
            "The weights of net are missing, and REELMAP_HUB switches downloads off.",
        ),
        ((), {"REELMAP_WEIGHTS_DIR": "/proc/none"}, "The weights folder /proc/none cannot be written to: "),
    ],
)
def test_what_a_person_has_to_change_is_one_sentence(tmp_path, models, more, sentence):
    asked = fetch(tmp_path, "http://127.0.0.1:9", *models, **more)
    _, said = asked.communicate(timeout=60)
    assert asked.returncode != 0
    assert sentence in said
    assert "Traceback" not in said
