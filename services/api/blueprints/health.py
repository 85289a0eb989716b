"""Whether this process lives, and whether it can answer."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response

from services.api.context import transaction
from services.api.problems import problem
from services.api.schemas.answers import Health
from shared.schema import is_usable, newest_revision, schema_revision

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
        found = schema_revision(connection)
    if not is_usable(found):
        needed = newest_revision()
        return problem(503, f"The database has schema {found or 'none'}, this version needs {needed}; migrate it.")
    return Health(status="ok")
