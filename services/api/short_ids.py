"""Lets the beginning of an id stand for the id, in addresses and in requests, where it is the beginning of one id only.

A person copies the first eight characters from a narrow terminal; programs send whole ids and cost nothing more.
"""

from __future__ import annotations

from typing import TypeVar

from flask import request
from pydantic import BaseModel
from sqlalchemy import Connection, text

from services.api.context import current_project_id, transaction
from services.api.problems import NotFound
from services.api.queries.clusters import GROUPS

LEAST_CHARACTERS, ID_CHARACTERS = 8, 36
_FIRST = "00000000-0000-0000-0000-000000000000"

_OF_A_JOB = "JOIN jobs j ON j.id = {0}.job_id WHERE j.project_id = :project"
#: What a part of an address names -> (what people call it, its rows within a project, their alias).
KINDS = {
    "job_id": ("job", "jobs t WHERE t.project_id = :project"),
    "source_id": ("source", f"sources t {_OF_A_JOB.format('t')}"),
    "clustering_id": ("clustering", f"clusterings t {_OF_A_JOB.format('t')}"),
    "cluster_id": ("cluster", f"{GROUPS} t JOIN clusterings c ON c.id = t.clustering_id {_OF_A_JOB.format('c')}"),
    "key_frame_id": (
        "key frame",
        """key_frames t JOIN extractions x ON x.id = t.extraction_id JOIN videos v ON v.id = x.video_id
        WHERE v.project_id = :project""",
    ),
    "video_id": ("video", "videos t WHERE t.project_id = :project"),
    "export_id": ("export", "exports t WHERE t.project_id = :project"),
    "key_id": ("key", "api_keys t WHERE t.project_id = :project"),
    "query_id": ("query", "queries t WHERE t.project_id = :project"),
}
#: Fields of requests that hold several ids -> as an address would call one of them.
_LISTS = {"jobs": "job_id"}

Asked = TypeVar("Asked", bound=BaseModel)


def complete() -> None:
    """Put whole ids in the place of short ones of this request. Raises `NotFound` for one of none, and of several."""
    short = [
        name
        for name, value in (request.view_args or {}).items()
        if name in KINDS and isinstance(value, str) and len(value) < ID_CHARACTERS
    ]
    if not short or request.view_args is None:
        return
    with transaction() as connection:
        for name in short:
            request.view_args[name] = _whole(connection, name, request.view_args[name])


def completed(asked: Asked) -> Asked:
    """The request with whole ids in place of short ones. Raises `NotFound` for one of none, and of several."""
    changes: dict[str, object] = {}
    for field, value in asked:
        if isinstance(value, BaseModel):
            changes[field] = completed(value)
        elif field in _LISTS and value:
            changes[field] = [_completed(_LISTS[field], each) for each in value]
        elif field in KINDS and value:
            changes[field] = _completed(field, value)
    return asked.model_copy(update=changes)


def _completed(name: str, value: str) -> str:
    if len(value) == ID_CHARACTERS:
        return value
    with transaction() as connection:
        return _whole(connection, name, value)


def _whole(connection: Connection, name: str, beginning: str) -> str:
    word, rows = KINDS[name]
    found = list(
        connection.execute(
            text(f"SELECT t.id FROM {rows} AND t.id BETWEEN CAST(:first AS uuid) AND CAST(:last AS uuid) LIMIT 2"),
            {
                "project": current_project_id(),
                "first": beginning + _FIRST[len(beginning) :],
                "last": beginning + _FIRST[len(beginning) :].replace("0", "f"),
            },
        ).scalars()
    )
    if not found:
        raise NotFound(f"There is no {word} {beginning}.", name)
    if len(found) > 1:
        raise NotFound(f"There is more than one {word} whose id begins with {beginning}; give more of it.", name)
    return str(found[0])
