"""Opens connections to judged addresses and to no others.

The host is resolved here, every address judged, and the connection opened to a judged address with the host kept in
the TLS handshake and the certificate check. Proxies of the environment have no effect: nothing here looks for them.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Callable

from shared.egress.addresses import Reach, checked_addresses


def _go_on() -> None: ...


def connect(
    host: str,
    port: int,
    *,
    reach: Reach,
    timeout_s: float,
    with_tls: bool = False,
    check: Callable[[], None] = _go_on,
) -> socket.socket:
    """A connection to the first of the host's judged addresses that answers.

    timeout_s: for each address, and then for every wait on the connection until the caller sets another.
    check: called before each address; what it raises is raised here.

    Raises what `checked_addresses` raises, and an OSError (`ssl.SSLError` is one) when no address answers.
    """
    failure: OSError | None = None
    for address in checked_addresses(host, port, reach):
        check()
        try:
            connection = socket.create_connection((address, port), timeout=timeout_s)
        except OSError as error:
            failure = failure or error
            continue
        if not with_tls:
            return connection
        try:
            return _trusted_authorities().wrap_socket(connection, server_hostname=host)
        except OSError as error:
            connection.close()
            failure = failure or error
    raise failure or ConnectionError("the name has no address")


@functools.cache
def _trusted_authorities() -> ssl.SSLContext:
    """The system's certificate authorities and Mozilla's: slim images come without the first, company networks need
    it."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
