"""What every answer tells browsers and caches: to load nothing from elsewhere, and to keep nothing for others."""

from __future__ import annotations

from functools import cache

from flask import Response, request

YEAR_S = 31_536_000

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
#: Swagger UI sets style attributes and draws its arrows from data: addresses.
_POLICY_OF_DOCS = {**_POLICY, "style-src": "'self' 'unsafe-inline'", "img-src": "'self' data:"}

_UNUSED_FEATURES = (
    "accelerometer",
    "camera",
    "display-capture",
    "geolocation",
    "gyroscope",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "serial",
    "usb",
)

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: What means something only for a page.
_HEADERS_OF_PAGES = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _UNUSED_FEATURES),
}


def _written(policy: dict[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in policy.items())


_HARDENED = [*_HEADERS.items(), ("Content-Security-Policy", _written(_POLICY))]
_HARDENED_DOCS = [
    *_HEADERS.items(),
    *_HEADERS_OF_PAGES.items(),
    ("Content-Security-Policy", _written(_POLICY_OF_DOCS)),
]


@cache
def _hardened_page(pictures_origin: str | None) -> list[tuple[str, str]]:
    policy = _POLICY
    if pictures_origin:
        policy = {**_POLICY, "img-src": f"'self' {pictures_origin}"}
    return [*_HEADERS.items(), *_HEADERS_OF_PAGES.items(), ("Content-Security-Policy", _written(policy))]


def harden(response: Response, pictures_origin: str | None) -> None:
    """Add all of it to an answer. What may be kept, and how long, the answer has said already.

    pictures_origin: from where else than from here pages show pictures.
    """
    if request.endpoint == "docs":
        response.headers.extend(_HARDENED_DOCS)
    elif response.mimetype == "text/html":
        response.headers.extend(_hardened_page(pictures_origin))
    else:
        response.headers.extend(_HARDENED)
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = f"max-age={YEAR_S}"
    _keep_from_others(response)


def _keep_from_others(response: Response) -> None:
    """What one key may see is not for the next one behind the same cache."""
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "private, no-cache"
        return
    kept = response.cache_control
    if not kept.public and not kept.no_store:
        kept.private = True


def forbid_storing(response: Response) -> None:
    """For an answer that holds a secret: no cache and no history keeps it."""
    response.cache_control.no_store = True
