"""What people type into forms, as the requests that the API takes; and the files they choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from flask import current_app, request
from sqlalchemy import Connection
from werkzeug.datastructures import FileStorage, MultiDict

from services.api.blueprints.uploads import FORM_MARGIN_BYTES
from services.api.commands import uploads
from services.api.commands.uploads import Received
from services.api.context import service
from services.api.problems import FieldError, Refusal
from shared import catalog


def lines(text: str) -> list[str]:
    """The lines that hold something, without the space around them."""
    return [line for line in map(str.strip, text.splitlines()) if line]


def n_clusters(text: str) -> dict[str, Any]:
    """The setting `n_clusters`: none when the field is empty; what is no number is left for the catalog to judge."""
    text = text.strip()
    if not text:
        return {}
    return {"n_clusters": int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text}


def clustering_settings(form: MultiDict[str, str]) -> dict[str, Any]:
    """The settings of a clustering that a person asks for. Fields that are not there are left out."""
    settings: dict[str, Any] = {name: form[name] for name in ("model", "algorithm", "scaling") if form.get(name)}
    seed = form.get("seed", "").strip()
    if seed:
        settings["seed"] = int(seed) if seed.isascii() and seed.isdigit() and len(seed) < 20 else seed
    return settings | n_clusters(form.get("n_clusters", ""))


def named_by_url(refusal: Refusal, urls: Sequence[str]) -> Refusal:
    """The refusal, with the URL itself in place of its number in the list, which no person counts."""
    refusal.errors = [_named(field, message, urls) for field, message in refusal.errors]
    return refusal


def _named(field: str, message: str, urls: Sequence[str]) -> FieldError:
    name, _, index = field.partition(".")
    if name == "videos" and index.isdigit() and int(index) < len(urls):
        return urls[int(index)], message
    return field, message


@dataclass(frozen=True)
class StoredFile:
    """A file whose bytes are in the blob store; its row is still to be written."""

    received: Received
    blob: str
    name: str


def expect_files() -> None:
    """Let files be as large as an upload may be, and the list of URLs as a body of the API. Before it is read."""
    longest_bytes = current_app.config["MAX_CONTENT_LENGTH"]
    request.max_form_memory_size = longest_bytes
    request.max_content_length = max(longest_bytes, service().settings.max_upload_bytes + FORM_MARGIN_BYTES)


def store_files(files: Sequence[FileStorage]) -> list[StoredFile]:
    """Put the chosen files into the blob store; an empty file field of a browser is no file."""
    settings, blobs = service().settings, service().blobs
    stored = []
    for file in files:
        if not file.filename:
            continue
        with ExitStack() as stack:
            received = stack.enter_context(
                uploads.received(file.stream, max_bytes=settings.max_upload_bytes, folder=settings.work_folder)
            )
            stored.append(StoredFile(received, uploads.store_upload(blobs, received), file.filename))
    return stored


def add_files(connection: Connection, project_id: str, files: Sequence[StoredFile]) -> list[str]:
    """Write the rows of stored files. Returns their URLs."""
    return [uploads.add_upload(connection, project_id, each.received, each.blob, each.name).url for each in files]


def default_models(models: Sequence[Any]) -> list[str]:
    """Which models a new form has ticked: the usual ones as far as they work, else the first that is known to."""
    usable = [model.name for model in models if not model.problem]
    usual = [name for name in catalog.DEFAULT_MODELS if name in usable]
    return usual or [model.name for model in models if model.available][:1]


def given(form: Mapping[str, str], **defaults: Any) -> dict[str, Any]:
    """What a form's fields show: what was typed, else the default."""
    return {name: form.get(name, value) for name, value in defaults.items()}
