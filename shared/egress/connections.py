"""Opens web connections to judged addresses and to no others.

The host is resolved here, every address judged, and the connection opened to a judged address with the host kept in
the TLS handshake and the certificate check. Proxies of the environment have no effect: a bare urllib3 connection never
looks for them.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.egress.addresses import Reach, checked_addresses

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection


def connect(
    scheme: str,
    host: str,
    port: int,
    *,
    reach: Reach,
    timeout_s: float,
    check: Callable[[], None],
) -> HTTPConnection:
    """A connection to the first of the host's judged addresses that answers; the caller names the host in `Host`.

    scheme: http or https. timeout_s: for each address. check: called before each; what it raises is raised here.

    Raises what `checked_addresses` raises, and urllib3's HTTPError or an OSError when no address answers.
    """
    from urllib3.exceptions import HTTPError

    failure: Exception | None = None
    for address in checked_addresses(host, port, reach):
        check()
        connection = _connection_to(address, scheme, host, port, timeout_s)
        try:
            connection.connect()
        except (HTTPError, OSError) as error:
            connection.close()
            failure = failure or error
        else:
            return connection
    raise failure or ConnectionError("the name has no address")


def _connection_to(address: str, scheme: str, host: str, port: int, timeout_s: float) -> HTTPConnection:
    from urllib3.connection import HTTPConnection, HTTPSConnection

    if scheme == "http":
        return HTTPConnection(address, port, timeout=timeout_s)
    return HTTPSConnection(address, port, timeout=timeout_s, server_hostname=host, ssl_context=trusted_authorities())


@functools.cache
def trusted_authorities() -> ssl.SSLContext:
    """The system's certificate authorities and Mozilla's: slim images come without the first, company networks need
    it."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
