"""What counts as the URL of a source, and the one spelling under which repeated URLs are recognised.

The API checks with it at the door and the key-frame workers before they connect, so that both agree. Nothing here
touches the network: which addresses may be connected to is decided on the resolved address, where the connection is
opened (a name says nothing about where it leads).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

import idna

from shared.errors import ErrorKind, PermanentError

MAX_URL_LENGTH = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
UPLOAD_SCHEME = "upload"

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_UPLOAD_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
# What RFC 3986 allows unescaped in a path or query, and "%" because what is escaped already stays as it is.
_SAFE_IN_TARGET = "/?:@!$&'()*+,;=-._~%[]|"


@dataclass(frozen=True)
class SourceUrl:
    """A URL that was parsed once; whoever connects uses these parts and never parses `url` again.

    scheme: "http", "https" or "upload".
    host: lower case, IDN in its ASCII form, IPv6 without brackets; "upload" for uploads. Also the key of the limit
        per host.
    port: 0 for uploads.
    target: path and query as they stand in a request line: as given, with what cannot stand there percent-encoded;
        the id for uploads.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def url(self) -> str:
        """The normal spelling: no surrounding spaces, no fragment, no default port."""
        if self.scheme == UPLOAD_SCHEME:
            return f"{UPLOAD_SCHEME}:{self.target}"
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def authority(self) -> str:
        """Host with brackets if it is IPv6, and with the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_source_url(text: str) -> SourceUrl:
    """Check one URL as a person typed it and bring it to its normal spelling.

    Raises PermanentError(UNSUPPORTED_URL) with a sentence when it is not an http(s) or upload URL we would fetch.
    """
    text = text.strip()
    if not text:
        raise _refused(text, "it is empty")
    if len(text) > MAX_URL_LENGTH:
        raise _refused(text, f"it is longer than {MAX_URL_LENGTH} characters")
    # Parsers disagree about these (`http://good.example\@10.0.0.1/`), and nobody needs them.
    if "\\" in text or any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise _refused(text, "it holds a backslash or a control character")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise _refused(text, "it holds half of a surrogate pair, which is no character")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _refused(text, f"it is malformed ({error})") from None

    if parts.scheme == UPLOAD_SCHEME:
        return _upload(text, parts)
    if parts.scheme not in DEFAULT_PORTS:
        raise _refused(text, "only addresses that begin with http:// or https://, and uploads, can be fetched")
    if "@" in parts.netloc:
        raise _refused(text, "it carries a user name or password before the host; leave that part out")
    if not parts.hostname:
        raise _refused(text, "it names no host")
    if port == 0:
        raise _refused(text, "port 0 cannot be connected to")

    return SourceUrl(
        scheme=parts.scheme,
        host=_normal_host(text, parts.hostname),
        port=port or DEFAULT_PORTS[parts.scheme],
        target=quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_SAFE_IN_TARGET),
    )


def _upload(text: str, parts: SplitResult) -> SourceUrl:
    if parts.netloc or parts.query or not _UPLOAD_ID.fullmatch(parts.path):
        raise _refused(text, "an upload is written upload:<id>, with the id that the upload's answer gave")
    return SourceUrl(scheme=UPLOAD_SCHEME, host=UPLOAD_SCHEME, port=0, target=parts.path)


def _normal_host(text: str, hostname: str) -> str:
    if ":" in hostname:
        try:
            address = ipaddress.IPv6Address(hostname)
        except ValueError:
            raise _refused(text, "its host is not a valid IPv6 address") from None
        if address.scope_id is not None:
            raise _refused(text, "its host is an IPv6 address of one network interface only")
        return str(address)
    if not hostname.isascii():
        try:
            hostname = idna.encode(hostname, uts46=True, transitional=False).decode("ascii")
        except idna.IDNAError:
            raise _refused(text, "its host is not a valid international domain name") from None
    hostname = hostname.removesuffix(".")
    if not _HOST.fullmatch(hostname):
        raise _refused(text, "its host is not a valid name")
    return hostname


def _refused(text: str, reason: str) -> PermanentError:
    shown = re.sub(r"//[^/?#]*@", "//…@", text)  # a password must not end up in a log
    shown = shown.encode(errors="replace").decode()
    if len(shown) > 200:
        shown = shown[:200] + "…"
    return PermanentError(ErrorKind.UNSUPPORTED_URL, f"“{shown}” cannot be used as a video's address: {reason}.")
