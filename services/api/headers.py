"""What every answer tells browsers and caches: to load nothing from elsewhere, and to keep nothing for others."""

from __future__ import annotations

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
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _UNUSED_FEATURES),
}


def _written(policy: dict[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in policy.items())


_WRITTEN_POLICY, _WRITTEN_POLICY_OF_DOCS = _written(_POLICY), _written(_POLICY_OF_DOCS)


def harden(response: Response) -> None:
    """Add to an answer what it does not say itself."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    policy = _WRITTEN_POLICY_OF_DOCS if request.endpoint == "docs" else _WRITTEN_POLICY
    response.headers.setdefault("Content-Security-Policy", policy)
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", f"max-age={YEAR_S}")
    if not response.cache_control.public and not response.cache_control.no_store:
        # What one key may see is not for the next one behind the same cache.
        response.cache_control.private = True
        if response.cache_control.max_age is None:
            response.cache_control.no_cache = True


def forbid_storing(response: Response) -> None:
    """For an answer that holds a secret: no cache and no history keeps it."""
    response.cache_control.no_store = True
