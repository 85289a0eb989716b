"""Sign-ins: a cookie that names a key, signed, and good for some hours. It holds nothing of the key's secret."""

from __future__ import annotations

import hashlib

from flask import request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from shared.settings import Settings


def start(response: Response, settings: Settings, key_id: str) -> None:
    """Let the browser show this key with its next requests."""
    response.set_cookie(
        _name(),
        _serializer(settings).dumps(key_id),
        max_age=int(settings.session_s),
        httponly=True,
        # Not Strict: a link in a letter should open the page that it names, not the page to sign in on.
        samesite="Lax",
        secure=request.is_secure,
    )


def end(response: Response) -> None:
    """Let the browser forget the sign-in."""
    response.delete_cookie(_name(), httponly=True, samesite="Lax", secure=request.is_secure)


def key_id(settings: Settings) -> str | None:
    """The key that this request's sign-in names; None without one, or when it is too old or not signed by us."""
    cookie = request.cookies.get(_name())
    if not cookie:
        return None
    try:
        found = _serializer(settings).loads(cookie, max_age=int(settings.session_s))
    except BadSignature:
        return None
    return found if isinstance(found, str) else None


def _name() -> str:
    # Browsers take this prefix only from the host itself and only over TLS, so no neighbour can set the cookie.
    return "__Host-reelmap" if request.is_secure else "reelmap"


def _serializer(settings: Settings) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        settings.cookie_secret, salt="reelmap sign-in", signer_kwargs={"digest_method": hashlib.sha256}
    )
