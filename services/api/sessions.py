"""Sign-ins: a cookie that names a key, signed, and good for a while. It holds nothing of the key's secret.

A copy of the cookie is as good as the cookie, also after a sign-out: so it is short-lived, and renewed while in use.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from flask import request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from shared.settings import Settings

#: A cookie is made anew at most this often.
RENEWED_EVERY_S = 300
#: Then the key has to be shown again, however much the sign-in was used; later where `session_s` says so.
LONGEST_S = 12 * 3600


@dataclass(frozen=True)
class SignIn:
    """What the cookie of a request says. Both times are seconds of Unix time."""

    key_id: str
    began_at: int  # when the key was shown
    renewed_at: int  # when the cookie was made


def start(response: Response, settings: Settings, key_id: str) -> None:
    """Let the browser show this key with its next requests."""
    _set_cookie(response, settings, key_id, int(time.time()))


def renew(response: Response, settings: Settings, sign_in: SignIn) -> None:
    """Let a sign-in that is used go on, unless its cookie is still new."""
    if time.time() - sign_in.renewed_at >= min(RENEWED_EVERY_S, settings.session_s / 2):
        _set_cookie(response, settings, sign_in.key_id, sign_in.began_at)


def end(response: Response) -> None:
    """Let the browser forget the sign-in."""
    response.delete_cookie(_name(), httponly=True, samesite="Lax", secure=request.is_secure)


def current(settings: Settings) -> SignIn | None:
    """The sign-in of this request; None without one, or when it is too old or not signed by us."""
    cookie = request.cookies.get(_name())
    if not cookie:
        return None
    try:
        said, made_at = _serializer(settings).loads(cookie, max_age=int(settings.session_s), return_timestamp=True)
        key_id, began_at = said
    except (BadSignature, ValueError):  # ValueError: of another version, which kept something else
        return None
    if _left_s(settings, began_at) <= 0:
        return None
    return SignIn(key_id, began_at, int(made_at.timestamp()))


def _set_cookie(response: Response, settings: Settings, key_id: str, began_at: int) -> None:
    response.set_cookie(
        _name(),
        _serializer(settings).dumps([key_id, began_at]),
        max_age=int(min(settings.session_s, _left_s(settings, began_at))),
        httponly=True,
        # Not Strict: a link in a letter should open the page that it names, not the page to sign in on.
        samesite="Lax",
        secure=request.is_secure,
    )


def _left_s(settings: Settings, began_at: int) -> float:
    """How long a sign-in may go on at most."""
    return began_at + max(LONGEST_S, settings.session_s) - time.time()


def _name() -> str:
    # Browsers take this prefix only from the host itself and only over TLS, so no neighbour can set the cookie.
    return "__Host-reelmap" if request.is_secure else "reelmap"


def _serializer(settings: Settings) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        settings.cookie_secret, salt="reelmap sign-in", signer_kwargs={"digest_method": hashlib.sha256}
    )
