"""Weights are found where a person put them, fetched where that is allowed, else asked for."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from services.embedding.weights import HuggingFace, TorchFile, find_weights, unusable
from shared.errors import ErrorKind, PermanentError

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Shelf:
    """A hub that has the weights, or has not."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.asked = 0

    def download(self) -> Path:
        self.asked += 1
        if self.path is None:
            raise OSError("no route\nto the shelf")
        return self.path

    def command(self, name: str) -> str:
        return f"fetch {name}"


@pytest.fixture
def file_server(tmp_path, monkeypatch):
    """URL of a server with CONTENT at every path that starts with /net, and an own cache for what comes from it."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path.startswith("/net") else 404)
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def refusal(*arguments, hub: bool) -> str:
    with pytest.raises(PermanentError) as caught:
        find_weights("net", *arguments, hub=hub)
    assert caught.value.kind is ErrorKind.WEIGHTS_MISSING
    return caught.value.message


def test_the_first_name_that_exists_is_taken_and_the_hub_is_not_asked(tmp_path):
    shelf = Shelf()
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "net").mkdir()
    assert find_weights("net", ("net.pth", "org/net"), tmp_path, shelf, hub=True) == tmp_path / "org" / "net"
    (tmp_path / "net.pth").touch()
    assert find_weights("net", ("net.pth", "org/net"), tmp_path, shelf, hub=True) == tmp_path / "net.pth"
    assert shelf.asked == 0


def test_an_absolute_path_needs_no_folder(tmp_path):
    (tmp_path / "net.pth").touch()
    assert find_weights("net", (str(tmp_path / "net.pth"),), None, None, hub=False) == tmp_path / "net.pth"


def test_without_a_folder_a_file_beside_the_process_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pth").touch()
    message = refusal(("net.pth",), None, Shelf(), hub=False)
    assert "none is set (REELMAP_WEIGHTS_DIR)" in message


def test_the_hub_is_asked_only_where_that_is_allowed(tmp_path):
    shelf = Shelf(tmp_path)
    assert find_weights("net", ("net.pth",), tmp_path / "empty", shelf, hub=True) == tmp_path
    message = refusal(("net.pth", "n.pth"), tmp_path / "empty", shelf, hub=False)
    assert shelf.asked == 1
    for words in ("weights of net", "no net.pth or n.pth", str(tmp_path / "empty"), "REELMAP_HUB", "`fetch net.pth`"):
        assert words in message


def test_a_hub_that_does_not_answer_is_named_with_its_reason(tmp_path):
    message = refusal(("net.pth",), tmp_path, Shelf(), hub=True)
    assert "could not be downloaded (no route to the shelf)" in message


def test_a_file_is_downloaded_once_into_torchs_own_cache(file_server):
    source = TorchFile(f"{file_server}/net-{SHA256[:8]}.pth")
    path = source.download()
    assert path.read_bytes() == CONTENT
    assert path == Path(torch.hub.get_dir(), "checkpoints", f"net-{SHA256[:8]}.pth")
    path.write_bytes(b"kept")
    assert source.download().read_bytes() == b"kept"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(file_server):
    with pytest.raises(OSError, match="damaged"):
        TorchFile(f"{file_server}/net-00000000.pth").download()
    assert list(Path(torch.hub.get_dir(), "checkpoints").iterdir()) == []


def test_a_server_without_the_file_and_one_that_is_not_there_are_said(file_server, tmp_path):
    message = refusal(("net.pth",), tmp_path, TorchFile(f"{file_server}/other.pth"), hub=True)
    assert "404" in message
    message = refusal(("net.pth",), tmp_path, TorchFile("http://127.0.0.1:9/net.pth"), hub=True)
    assert "refused" in message


def test_a_hugging_face_hub_that_is_not_there_is_said(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal(("net",), tmp_path, HuggingFace("org/net"), hub=True)
    assert "could not be downloaded" in message
    assert "`hf download org/net --local-dir net`" in message


def test_a_name_that_no_repository_can_have_is_said(tmp_path):
    message = refusal(("a/b/c",), tmp_path, HuggingFace("a/b/c"), hub=True)
    assert "could not be downloaded" in message


def test_weights_that_cannot_be_used_are_named_with_a_short_reason():
    error = unusable("net", Path("/weights/net.pth"), "wrong\n  shape " + "x " * 1000)
    assert error.kind is ErrorKind.WEIGHTS_MISSING
    assert "net in /weights/net.pth cannot be used (wrong shape x x" in error.message
    assert len(error.message) < 350
