"""Adds the pages to the application."""

from __future__ import annotations

from flask import Flask

from services.api.pages import caller, clusterings, errors, exports, filters, jobs, key_frames, keys, search, sign_in


def register(app: Flask) -> None:
    """Answer the addresses of the pages, and answer browsers' mistakes with a page."""
    filters.register(app)
    errors.register(app)
    caller.register(app)
    exports.register(app)
    for module in (jobs, clusterings, key_frames, search, exports, keys, sign_in):
        app.register_blueprint(module.blueprint)
