"""Signing in to the pages with a key, and out again."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from services.api import sessions
from services.api.access import wrong_key
from services.api.context import service
from services.api.problems import Refusal

blueprint = Blueprint("sign_in_pages", __name__)


@blueprint.get("/sign-in")
def show_sign_in() -> str | Response:
    """The form."""
    if service().settings.access == "open":
        return redirect("/")
    return render_template("sign_in.html", next=local_page(request.args.get("next", "")), problem=None)


@blueprint.post("/sign-in")
def sign_in() -> Response | tuple[str, int]:
    """Take the key and go on to the page that was asked for."""
    if service().settings.access == "open":
        return redirect("/", 303)
    next_page = local_page(request.form.get("next", ""))
    key = service().keys.by_text(request.form.get("key", "").strip())
    if key is None:
        try:
            raise wrong_key()
        except Refusal as refusal:
            return render_template("sign_in.html", next=next_page, problem=refusal), refusal.status
    response = redirect(next_page, 303)
    sessions.start(response, service().settings, key.id)
    return response


@blueprint.post("/sign-out")
def sign_out() -> Response:
    """Forget the sign-in, and the pictures that the browser kept."""
    response = redirect("/sign-in", 303)
    sessions.end(response)
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def local_page(asked: str) -> str:
    """The path and query to go on to; the first page for everything that could lead to another site."""
    # Browsers read a backslash as a slash and leave out tabs and line ends, so `/\t/evil.example` is another site.
    is_plain = asked.isascii() and asked.isprintable() and " " not in asked and "\\" not in asked
    return asked if is_plain and asked.startswith("/") and not asked.startswith("//") else "/"
