"""Which settings the stage hands to its fetches; what it does with the bytes is seen in the end-to-end tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.keyframes.cell.decoder import Decoder
from services.keyframes.store import SourceWork
from services.keyframes.tasks import KeyFramesHandler
from shared.db import Database
from shared.errors import ErrorKind, PermanentError
from shared.folder_blobs import FolderBlobs
from shared.runner import Work
from shared.settings import Settings
from tests.fuzz.internet import Internet


def refusal(url: str, folder: Path, **settings: Any) -> PermanentError:
    """Why the stage does not fetch a URL. It gives up before it asks for the database."""
    nowhere = Database("postgresql+psycopg2:///nowhere")
    handler = KeyFramesHandler(Settings(own_models={}, **settings), nowhere, FolderBlobs(folder / "blobs"), Decoder())
    source = SourceWork("source", "project", url, 0, {"strategy": "uniform"}, None)
    with pytest.raises(PermanentError) as caught:
        handler.compute([source], Work(folder, handler.deadline_s, stop_grace_s=1, stopping=lambda: False))
    return caught.value


def test_the_ports_are_those_of_the_settings(web: Any, internet: Internet, tmp_path: Path) -> None:
    error = refusal("http://public.example/a.mp4", tmp_path, fetch_ports="8080,9090")
    assert "on port 80, only on 8080, 9090" in error.message
    web.serve("/a.mp4", b"<html>", Content_Type="text/html")
    assert refusal("http://public.example:8080/a.mp4", tmp_path, fetch_ports="any").kind is ErrorKind.NOT_A_VIDEO


def test_pages_of_unknown_sites_are_searched_if_the_settings_say_so(
    web: Any, internet: Internet, tmp_path: Path
) -> None:
    web.serve(
        "/page", b"<!DOCTYPE html><html><video src='http://10.0.0.1/a.mp4'></video></html>", Content_Type="text/html"
    )
    error = refusal("http://public.example/page", tmp_path, allow_generic_extractor=True)
    assert error.kind is ErrorKind.PRIVATE_ADDRESS
