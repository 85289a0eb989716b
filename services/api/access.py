"""Who may do what: a key in the Authorization header, or a sign-in with it; everything else is refused at the door.

What an address needs follows from its method: looking needs a reader's key, changing a writer's. Exceptions are listed
here, so that a new view is closed until somebody opens it.
"""

from __future__ import annotations

import logging

from flask import g, redirect, request
from werkzeug.wrappers import Response

from services.api import paths, sessions
from services.api.context import ANYBODY, Caller, service
from services.api.openness import refuse_open_to_others
from services.api.problems import SAFE_METHODS, Forbidden, Unauthorized
from shared.keys import Key
from shared.roles import Role
from shared.settings import Settings

logger = logging.getLogger(__name__)

#: Endpoints for everybody: nothing of a project is behind them.
PUBLIC = frozenset(
    {
        "health.livez",
        "health.readyz",
        "static",
        "docs",
        "docs_file",
        "openapi.spec",
        "sign_in_pages.show_sign_in",
        "sign_in_pages.sign_in",
        "sign_in_pages.sign_out",
    }
)
#: Endpoints whose method does not say who may use them.
ROLES = {
    "search.search": Role.READER,
    "search_pages.search_by_picture": Role.READER,
    # A copy of what a reader sees; it changes nothing that others see.
    "exports.add_export": Role.READER,
    "export_pages.add_export": Role.READER,
    "keys.list_keys": Role.ADMIN,
    "keys.add_key": Role.ADMIN,
    "keys.revoke_key": Role.ADMIN,
    "key_pages.show_keys": Role.ADMIN,
    "key_pages.add_key": Role.ADMIN,
    "key_pages.revoke_key": Role.ADMIN,
}
#: A page asks for a hundred pictures at once, and they are cheap.
UNCOUNTED = frozenset({"key_frames.get_image", "search.get_picture"})


def check_settings(settings: Settings) -> None:
    """Raise `SettingError` when under these settings strangers would be let in, or nobody could sign in."""
    refuse_open_to_others(settings)
    if settings.access != "open":
        settings.require("cookie_secret")


def admit() -> Response | None:
    """Find out who asks, and refuse what they may not do. Pages that need a sign-in lead to it.

    Raises `Unauthorized`, `Forbidden` or `TooMany`.
    """
    if request.endpoint in PUBLIC:
        return None
    if service().settings.access == "open":
        g.caller = ANYBODY
    else:
        key = _key()
        if key is None:
            return _lead_to_sign_in()
        g.caller = Caller(key.project_id, key.role, key.id, key.name)
        if request.endpoint not in UNCOUNTED:
            service().rates.count_request(key.id)
    _check_role(g.caller)
    return None


def renew_sign_in(response: Response) -> Response:
    """Let the sign-in that this request came with go on; pictures, which browsers keep, do not carry it."""
    sign_in: sessions.SignIn | None = g.get("sign_in")
    if sign_in and request.endpoint not in UNCOUNTED:
        sessions.renew(response, service().settings, sign_in)
    return response


def wrong_key() -> Unauthorized:
    """What a key that is wrong or revoked is answered. Raises `TooMany` when there were too many from its address."""
    logger.warning("a wrong key from %s", request.remote_addr, extra={"event": "wrong_key"})
    service().rates.count_wrong_key(request.remote_addr or "")
    return Unauthorized("This key is not known here, or it was revoked. Ask whoever runs this Reelmap for a key.")


def needed_role(endpoint: str, method: str) -> Role:
    """The least role that may use an endpoint."""
    return ROLES.get(endpoint, Role.READER if method in SAFE_METHODS else Role.WRITER)


def _key() -> Key | None:
    """The key of this request, by header or by sign-in; None when it has neither."""
    keys = service().keys
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, given = header.partition(" ")
        key = keys.by_text(given.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            raise wrong_key()
        return key
    sign_in = sessions.current(service().settings)
    if sign_in is None:
        return None
    key = keys.by_id(sign_in.key_id)
    if key is not None:
        g.sign_in = sign_in
    return key


def _lead_to_sign_in() -> Response:
    if request.path.startswith(f"{paths.API}/"):
        raise Unauthorized(
            "This Reelmap asks for a key: send it as `Authorization: Bearer rmk_…`. `reelmap keys add` makes one."
        )
    if request.method in SAFE_METHODS:
        return redirect(paths.sign_in_page(request.full_path.rstrip("?")))
    return redirect(paths.sign_in_page(), 303)


def _check_role(caller: Caller) -> None:
    if request.endpoint is None:  # there is no such address, which is said next
        return
    needed = needed_role(request.endpoint, request.method)
    if caller.role.may(needed):
        return
    if caller is ANYBODY:
        raise Forbidden(
            "Keys are managed here by somebody with a key, and this Reelmap asks for none. "
            "Use `reelmap keys` on its machine."
        )
    raise Forbidden(f"The key {caller.name!r} has the role {caller.role}; this needs the role {needed}.")
