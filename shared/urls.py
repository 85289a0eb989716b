"""What counts as the URL of a source, and the one spelling under which repeated URLs are recognised.

The API checks with it at the door and the key-frame workers before they connect, so that both agree. Nothing here
touches the network: which addresses may be connected to is decided on the resolved address, where the connection is
opened (a name says nothing about where it leads).
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

import idna

from shared.buckets import BucketPlace, is_bucket_name
from shared.clean_text import quoted
from shared.errors import ErrorKind, PermanentError

MAX_URL_LENGTH = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
UPLOAD_SCHEME = "upload"
BUCKET_SCHEME = "s3"
MAX_KEY_BYTES = 1024

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_UPLOAD_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
# What RFC 3986 allows unescaped in a path or query, and "%" because what is escaped already stays as it is.
_SAFE_IN_TARGET = "/?:@!$&'()*+,;=-._~%[]|"


@dataclass(frozen=True)
class SourceUrl:
    """A URL that was parsed once; whoever connects uses these parts and never parses `url` again.

    scheme: "http", "https", "s3" or "upload".
    host: lower case, IDN in its ASCII form, IPv6 without brackets; the bucket for s3; "upload" for uploads.
    port: 0 for s3 and uploads.
    target: path and query as they stand in a request line: as given, with what cannot stand there percent-encoded;
        the key for s3, letter by letter as it was given; the id for uploads.
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
        if self.scheme == BUCKET_SCHEME:
            return f"{BUCKET_SCHEME}://{self.host}/{self.target}"
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def limit_key(self) -> str:
        """Whose patience the fetch uses: the host, or the bucket, which may be called like a host."""
        return f"{BUCKET_SCHEME}://{self.host}" if self.scheme == BUCKET_SCHEME else self.host

    def is_in(self, places: Iterable[BucketPlace]) -> bool:
        """Whether an s3 URL names something at one of these."""
        return any(place.holds(self.host, self.target) for place in places)

    @property
    def authority(self) -> str:
        """Host with brackets if it is IPv6, and with the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_source_url(text: str) -> SourceUrl:
    """Check one URL as a person typed it and bring it to its normal spelling.

    Raises PermanentError(UNSUPPORTED_URL) with a sentence when it is not an http(s), s3 or upload URL we would fetch.
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
    # Before anything is split off: a key may hold question marks and number signs.
    if text[:5].lower() == f"{BUCKET_SCHEME}://":
        return _in_bucket(text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _refused(text, f"it is malformed ({error})") from None

    if parts.scheme == UPLOAD_SCHEME:
        return _upload(text, parts)
    if parts.scheme not in DEFAULT_PORTS:
        raise _refused(text, "only addresses that begin with http://, https:// or s3://, and uploads, can be fetched")
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


def _in_bucket(text: str) -> SourceUrl:
    """As the tools of AWS read it: what follows the bucket is the key, and nothing in it is decoded."""
    bucket, _, key = text[5:].partition("/")
    if not is_bucket_name(bucket):
        raise _refused(text, "an object in a bucket is written s3://bucket/key, the bucket in small letters and digits")
    if not key or key.endswith("/"):
        raise _refused(text, "it names a bucket or a folder; submit the address of each video in it")
    if any(unicodedata.category(c).startswith("C") for c in key):
        raise _refused(text, "its key holds a character that cannot be seen, such as one that turns text around")
    # Stores that keep objects as files, and whatever tidies addresses up on the way, take these for folders.
    if any(part in (".", "..") for part in key.split("/")):
        raise _refused(text, "its key has a part . or .., which is taken for a folder on the way")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise _refused(text, f"its key is longer than {MAX_KEY_BYTES} bytes")
    return SourceUrl(scheme=BUCKET_SCHEME, host=bucket, port=0, target=key)


def not_opened(source: SourceUrl) -> PermanentError:
    """Why an s3 URL outside of all places is not fetched. Which places there are is nobody's business."""
    return _refused(
        source.url,
        "this Reelmap does not fetch from there. Ask who runs it to name the bucket in REELMAP_S3_SOURCES, or download "
        "the video and upload it",
        kind=ErrorKind.FORBIDDEN,
    )


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


def _refused(text: str, reason: str, kind: ErrorKind = ErrorKind.UNSUPPORTED_URL) -> PermanentError:
    shown = re.sub(r"//[^/?#]*@", "//…@", text)  # a password must not end up in a log
    return PermanentError(kind, f"“{quoted(shown)}” cannot be used as a video's address: {reason}.")
