"""Errors as pages: what `problems` answers, dressed in HTML for browsers."""

from __future__ import annotations

from flask import Flask, Response, render_template, request

from services.api import paths, problems


def register(app: Flask) -> None:
    """Let `app` answer browsers with a page where it would answer with a problem document."""
    app.after_request(_dress)


def _dress(response: Response) -> Response:
    if response.mimetype != problems.MEDIA_TYPE or not _is_for_a_person():
        return response
    response.set_data(render_template("problem.html", problem=response.get_json(force=True)))
    response.mimetype = "text/html"
    return response


def _is_for_a_person() -> bool:
    # Programs that name no media type take */* and get the problem document.
    offers = ["application/json", problems.MEDIA_TYPE, "text/html"]
    return not request.path.startswith(f"{paths.API}/") and request.accept_mimetypes.best_match(offers) == "text/html"
