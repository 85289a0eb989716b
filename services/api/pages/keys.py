"""The page on which admins make and revoke keys."""

from __future__ import annotations

from flask import Blueprint, make_response, redirect, render_template, request
from werkzeug.wrappers import Response

from services.api.commands import keys as commands
from services.api.context import caller, current_project_id, transaction
from services.api.headers import forbid_storing
from services.api.pages import forms
from services.api.problems import Refusal, parse
from services.api.queries import keys as queries
from services.api.schemas.answers import NewKey
from services.api.schemas.requests import KeyRequest, Paging
from shared.roles import Role

blueprint = Blueprint("key_pages", __name__)


@blueprint.get("/keys")
def show_keys() -> str:
    """The project's keys, and the form of a new one."""
    return _page()


@blueprint.post("/keys")
def add_key() -> Response | tuple[str, int]:
    """Make a key and show it, this once."""
    try:
        asked = parse(KeyRequest, {"name": request.form.get("name", ""), "role": request.form.get("role", "")})
        with transaction() as connection:
            key = commands.add_key(connection, current_project_id(), asked)
    except Refusal as refusal:
        return _page(problem=refusal), refusal.status
    response = make_response(_page(key), 201)
    forbid_storing(response)
    return response


@blueprint.post("/keys/<id:key_id>/revoke")
def revoke_key(key_id: str) -> Response:
    """Revoke a key; within two seconds it is refused."""
    with transaction() as connection:
        commands.revoke_key(connection, current_project_id(), key_id)
    return redirect("/keys", 303)


def _page(new: NewKey | None = None, problem: Refusal | None = None) -> str:
    paging = parse(Paging, request.args.to_dict())
    with transaction() as connection:
        page = queries.list_keys(connection, current_project_id(), **dict(paging))
    return render_template(
        "keys.html",
        keys=page,
        cursor=paging.cursor,
        own_id=caller().key_id,
        new=new,
        roles=list(Role),
        given=forms.given({} if new else request.form, name="", role=Role.READER.value),
        problem=problem,
    )
