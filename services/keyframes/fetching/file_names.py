"""What a server calls the file that it sends: the header made for it, else the end of the address."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_to_bytes

#: A longer header is not read: no file has such a name.
MAX_HEADER_CHARACTERS = 4096

# name=value or name="value"; what stands between two of them is passed over (RFC 6266, 4.1). Linear in the length.
_PARAMETER = re.compile(r'([!#$%&*+.^_`|~\w-]{1,32})[ \t]{0,8}=[ \t]{0,8}(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))', re.ASCII)
_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}


def file_name(content_disposition: str, target: str) -> str | None:
    """The last part of the name as it is written there; never to be used as a path. None where there is none.

    content_disposition: the header as Latin-1, as HTTP libraries give it. target: path and query of the address.
    """
    name = _from_header(content_disposition) or unquote(target.partition("?")[0])
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] or None


def _from_header(header: str) -> str:
    if len(header) > MAX_HEADER_CHARACTERS:
        return ""
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(as_utf8(header)):
        name, quoted_value, token = match.groups()
        value = re.sub(r"\\(.)", r"\1", quoted_value) if quoted_value is not None else token
        parameters.setdefault(name.lower(), value)
    return _extended(parameters.get("filename*", "")) or parameters.get("filename", "")


def _extended(value: str) -> str:
    """A value with its charset, as `UTF-8''f%C3%BC%C3%9Fe` (RFC 8187); empty where it is none or makes no sense."""
    charset, _, rest = value.partition("'")
    _, mark, encoded = rest.partition("'")
    codec = _CHARSETS.get(charset.lower())
    if not mark or codec is None:
        return ""
    try:
        return unquote_to_bytes(encoded).decode(codec)
    except UnicodeDecodeError:
        return ""


def as_utf8(header: str) -> str:
    """HTTP libraries decode header bytes as Latin-1, while servers that go beyond ASCII write UTF-8."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header
