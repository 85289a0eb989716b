"""Refuses what other sites make a browser send: by a name that was made to lead here, or by a form of theirs.

The browser itself says where a request comes from, so no token has to travel with the forms. The rules are those of
Go's `http.CrossOriginProtection`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request

from services.api.context import service
from services.api.loopback import host_of, is_loopback
from services.api.problems import SAFE_METHODS, Forbidden


def refuse_foreign() -> None:
    """Raise `Forbidden` for a request that another site has caused. Before anything else looks at it."""
    if service().settings.access == "open":
        _refuse_other_names()
    if request.method not in SAFE_METHODS and not _is_a_program():
        _refuse_other_sites()


def _refuse_other_names() -> None:
    """Where nobody shows a key, a name that its owner points at 127.0.0.1 must not reach us (DNS rebinding)."""
    if not is_loopback(host_of(request.host)):
        raise Forbidden(
            "This Reelmap asks for no key, and therefore answers only under the names of its own machine, such as "
            "localhost. To reach it under another name, let it ask for keys (REELMAP_ACCESS=keys)."
        )
    origin = request.headers.get("Origin")
    if origin is not None and not is_loopback(_host_of_origin(origin)):
        raise Forbidden("A page of another site may not use a Reelmap that asks for no key.")


def _is_a_program() -> bool:
    """A key in a header is sent on purpose; what browsers send by themselves are cookies."""
    return "Authorization" in request.headers and "Cookie" not in request.headers


def _refuse_other_sites() -> None:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is None or _authority(origin) == request.host
    if not is_ours:
        raise Forbidden("This request comes from a page of another site. Nothing was done.")


def _host_of_origin(origin: str) -> str:
    return host_of(_authority(origin))


def _authority(origin: str) -> str:
    """Host and port of an `Origin`; nothing for `null` and for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
