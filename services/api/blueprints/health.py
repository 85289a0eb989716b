"""Whether this process lives, and whether it can answer."""

from __future__ import annotations

from functools import cache

from apiflask import APIBlueprint
from flask import Response
from sqlalchemy import text

from services.api.context import transaction
from services.api.problems import problem
from services.api.schemas import Health

blueprint = APIBlueprint("health", __name__, tag="Health")


@blueprint.get("/livez")
@blueprint.output(Health)
def livez() -> Health:
    """Say that the process answers; asks nobody else"""
    return Health(status="ok")


@blueprint.get("/readyz")
@blueprint.output(Health)
def readyz() -> Health | Response:
    """Say whether the database is there with the schema that this version needs"""
    with transaction() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found != newest_revision():
        return problem(503, f"The database has schema {found}, this version needs {newest_revision()}; migrate it.")
    return Health(status="ok")


@cache
def newest_revision() -> str | None:
    """The schema revision that the code was written for."""
    from alembic.script import ScriptDirectory

    from shared.db import alembic_config

    return ScriptDirectory.from_config(alembic_config("")).get_current_head()
