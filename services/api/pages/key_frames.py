"""The page of one key frame: its picture, where it is from, and what is like it."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from services.api.context import current_project_id, transaction
from services.api.queries import key_frames, search
from services.api.queries.memberships import embedded_by, list_memberships

blueprint = Blueprint("key_frame_pages", __name__)

ALIKE_SHOWN = 24


@blueprint.get("/key-frames/<id:key_frame_id>")
def show_key_frame(key_frame_id: str) -> str:
    """A key frame, and the nearest ones by the model that the address names."""
    project_id = current_project_id()
    with transaction() as connection:
        frame = key_frames.get_key_frame(connection, project_id, key_frame_id)
        memberships = list_memberships(connection, project_id, key_frame_id)
        models = embedded_by(connection, key_frame_id)
        model, alike = None, []
        if models:
            model = search.model_of_key_frame(connection, key_frame_id, request.args.get("model"))
            alike = search.nearest_to_key_frame(connection, project_id, key_frame_id, model, None, ALIKE_SHOWN)
    return render_template(
        "key_frame.html", frame=frame, memberships=memberships, models=models, model=model, results=alike
    )
