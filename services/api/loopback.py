"""Which names and addresses mean this machine and no other. Pure."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

_PORT = re.compile(r":[0-9]*\Z")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host, without a port, is this machine by its name or address: nothing is looked up."""
    host = host.lower().removesuffix(".").strip("[]")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3: never looked up elsewhere
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(authority: str) -> str:
    """The host of `host:port`, `[::1]:port` or a host alone."""
    return authority if authority.endswith("]") else _PORT.sub("", authority)
