"""What people type into forms, as the requests that the API takes; and the files they choose."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import current_app, request
from sqlalchemy import Connection
from werkzeug.datastructures import FileStorage, MultiDict

from services.api.commands import uploads
from services.api.context import current_project_id, service, write
from services.api.form_files import FORM_MARGIN_BYTES
from services.api.problems import FieldError, Refusal
from services.api.schemas.answers import ModelEntry
from shared import catalog
from shared.parameters import Parameter
from shared.urls import UPLOAD_SCHEME

T = TypeVar("T")


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
    """The settings of a clustering that a person asks for. Fields that are empty or not there are left out.

    A form has fields for the parameters of each algorithm, `kmeans.n_clusters`; those of the chosen one are read.
    """
    settings: dict[str, Any] = {name: form[name] for name in ("model", "algorithm", "scaling") if form.get(name)}
    seed = form.get("seed", "").strip()
    if seed:
        settings["seed"] = int(seed) if seed.isascii() and seed.isdigit() and len(seed) < 20 else seed
    algorithm = settings.get("algorithm", catalog.DEFAULT_ALGORITHM)
    entry = catalog.algorithms().get(algorithm)
    for parameter in entry.parameters if entry else ():
        typed = form.get(f"{algorithm}.{parameter.name}", "").strip()
        if typed:
            settings[parameter.name] = _value(parameter, typed)
    return settings


def words_to_choose(parameter: Parameter) -> dict[str, Any]:
    """The words that a parameter is chosen by, and what each means; none where something is typed."""
    if bool in parameter.kinds:
        return {"no": False, "yes": True}
    return {} if parameter.kinds else {word: word for word in parameter.choices}


def _value(parameter: Parameter, typed: str) -> Any:
    """What was typed, as JSON would have it; what is no such value is left for the catalog to judge."""
    words = words_to_choose(parameter)
    if typed in words:
        return words[typed]
    if int in parameter.kinds and typed.isascii() and typed.removeprefix("-").isdigit() and len(typed) < 20:
        return int(typed)
    if float in parameter.kinds:
        with suppress(ValueError):
            return float(typed)
    return typed


def named_by_url(refusal: Refusal, urls: Sequence[str]) -> Refusal:
    """The refusal, with the URL itself in place of its number in the list, which no person counts."""
    refusal.errors = [_named(field, message, urls) for field, message in refusal.errors]
    return refusal


def _named(field: str, message: str, urls: Sequence[str]) -> FieldError:
    name, _, index = field.partition(".")
    if name == "videos" and index.isdigit() and int(index) < len(urls):
        return urls[int(index)], message
    return field, message


def expect_files() -> None:
    """Let files be as large as an upload may be, and the list of URLs as a body of the API. Before it is read."""
    longest_bytes = current_app.config["MAX_CONTENT_LENGTH"]
    request.max_form_memory_size = longest_bytes
    request.max_content_length = max(longest_bytes, service().settings.max_upload_bytes + FORM_MARGIN_BYTES)


@dataclass(frozen=True)
class ChosenFile:
    """A file of a form that becomes an upload, if the rest of the form holds. upload_id: which it will be."""

    sent: FileStorage
    upload_id: str

    @property
    def name(self) -> str:
        return self.sent.filename or ""

    @property
    def url(self) -> str:
        return f"{UPLOAD_SCHEME}:{self.upload_id}"


def chosen_files(field: str) -> list[ChosenFile]:
    """The files in that field; an empty file field of a browser is no file.

    Raises `Invalid` or `TooLarge` for one that cannot become an upload. Nothing is stored yet.
    """
    files = [ChosenFile(sent, uploads.new_upload_id()) for sent in request.files.getlist(field) if sent.filename]
    for file in files:
        try:
            uploads.check_size(file.sent.stream.seek(0, os.SEEK_END), service().settings.max_upload_bytes)
        except Refusal as refusal:
            refusal.errors = [(file.name, message) for _, message in refusal.errors]
            raise
        file.sent.stream.seek(0)
    return files


def with_uploads(files: Sequence[ChosenFile], act: Callable[[Connection], T]) -> T:
    """Store the files, then write their rows and do `act` in one transaction; nothing is left when it is refused."""
    settings, blobs = service().settings, service().blobs
    with uploads.stored(blobs, [uploads.blob_of(file.upload_id) for file in files]):
        kept = []
        for file in files:
            with uploads.received(
                file.sent.stream, max_bytes=settings.max_upload_bytes, folder=settings.scratch_folder
            ) as received:
                kept.append((file, received, uploads.store_upload(blobs, file.upload_id, received)))

        def write_rows(connection: Connection) -> T:
            for file, received, blob in kept:
                uploads.add_upload(connection, current_project_id(), file.upload_id, received, blob, file.name)
            return act(connection)

        return write(write_rows)


def default_models(models: Sequence[ModelEntry]) -> list[str]:
    """Which models a new form has ticked: those that a job takes when it names none. Empty where none loads."""
    return catalog.default_models({model.name: model.available for model in models})


def given(form: Mapping[str, str], **defaults: Any) -> dict[str, Any]:
    """What a form's fields show: what was typed, else the default."""
    return {name: form.get(name, value) for name, value in defaults.items()}
