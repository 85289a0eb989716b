"""Keys: make, list, revoke; for admins."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response, current_app, make_response

from services.api import paths
from services.api.commands import keys as commands
from services.api.context import current_project_id, transaction
from services.api.headers import forbid_storing
from services.api.queries import keys as queries
from services.api.schemas.answers import KeyList, NewKey
from services.api.schemas.requests import KeyRequest, Paging

blueprint = APIBlueprint("keys", __name__, url_prefix=paths.API, tag="Keys")


@blueprint.get("/keys")
@blueprint.input(Paging, location="query")
@blueprint.output(KeyList)
def list_keys(query_data: Paging) -> KeyList:
    """List the project's keys, newest first"""
    with transaction() as connection:
        page = queries.list_keys(connection, current_project_id(), **dict(query_data))
    return KeyList(keys=page.items, next_cursor=page.next_cursor)


@blueprint.post("/keys")
@blueprint.doc(responses=[409])
@blueprint.input(KeyRequest)
@blueprint.output(NewKey, 201)
def add_key(json_data: KeyRequest) -> Response:
    """Make a key

    Its text is in this answer and nowhere else: only a hash of it is kept.
    """
    with transaction() as connection:
        key = commands.add_key(connection, current_project_id(), json_data)
    response = make_response(key.model_dump(mode="json"), 201)
    forbid_storing(response)
    return response


@blueprint.delete("/keys/<id:key_id>")
@blueprint.output({}, 204)
def revoke_key(key_id: str) -> Response:
    """Revoke a key; within two seconds it is refused"""
    with transaction() as connection:
        commands.revoke_key(connection, current_project_id(), key_id)
    return current_app.response_class(status=204)
