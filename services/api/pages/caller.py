"""What templates may ask about who looks at the page."""

from __future__ import annotations

from typing import Any

from flask import Flask, g

from services.api.context import Caller
from shared.roles import Role


def register(app: Flask) -> None:
    """Give the templates of `app` the name of the key that is signed in, and what it may do."""
    app.context_processor(_describe)


def _describe() -> dict[str, Any]:
    caller: Caller | None = g.get("caller")
    return {
        "signed_in": caller.name if caller else None,
        "may_write": caller is not None and caller.role.may(Role.WRITER),
        "may_manage_keys": caller is not None and caller.role.may(Role.ADMIN),
    }
