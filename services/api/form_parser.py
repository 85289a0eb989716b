"""Reads forms within one budget for a request: texts together, files in one place, few parts with short headers.

Werkzeug's own parser has its limits for each part: a form of a thousand parts may take a thousand times as much. Its
decoder of multipart bodies is used here, as far as it goes without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any
from urllib.parse import parse_qsl

from werkzeug.datastructures import FileStorage, Headers, MultiDict
from werkzeug.formparser import FormDataParser
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from services.api.problems import Malformed, TooLarge

#: Files and fields of one form.
MAX_PARTS = 1000
#: All texts of a form together, where a view does not say otherwise.
MAX_TEXT_BYTES = 512 * 1024
#: The headers of one part: a file's name of 255 characters is up to 3,060 bytes, percent-encoded.
MAX_HEADERS_BYTES = 4096
#: RFC 2046 allows 70 characters, some programs write more.
MAX_BOUNDARY = 200

_CHUNK_BYTES = 64 * 1024


class FormParser(FormDataParser):
    """What Flask asks to read a form. `max_form_memory_size` is the budget of all texts of it.

    Raises `Malformed` for what is no form, `TooLarge` for what is above a limit.
    """

    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: Mapping[str, str] | None = None,
    ) -> tuple[IO[bytes], MultiDict[str, Any], MultiDict[str, Any]]:
        fields: list[tuple[str, str]] = []
        files: list[tuple[str, FileStorage]] = []
        try:
            if mimetype == "multipart/form-data":
                self._read_parts(stream, (options or {}).get("boundary", ""), fields, files)
            elif mimetype == "application/x-www-form-urlencoded":
                fields += self._read_fields(stream)
        except ValueError as error:
            raise Malformed(f"The form cannot be read: {error}.") from None
        return stream, self.cls(fields), self.cls(files)

    def _read_fields(self, stream: IO[bytes]) -> list[tuple[str, str]]:
        content = bytearray()
        while chunk := stream.read(_CHUNK_BYTES):
            content += chunk
            self._check_texts(len(content))
        if content.count(b"&") >= MAX_PARTS:
            raise TooLarge(f"A form may have at most {MAX_PARTS} fields.")
        return parse_qsl(content.decode(errors="replace"), keep_blank_values=True, errors="replace")

    def _read_parts(
        self, stream: IO[bytes], boundary: str, fields: list[tuple[str, str]], files: list[tuple[str, FileStorage]]
    ) -> None:
        if not 0 < len(boundary) <= MAX_BOUNDARY:
            raise ValueError(f"its boundary has {len(boundary)} characters")
        part: Field | File | None = None
        text = bytearray()
        texts_bytes = 0
        file: IO[bytes] | None = None
        for event in _events(stream, boundary.encode("ascii")):
            if isinstance(event, Field | File):
                if not event.name:
                    raise ValueError("a part of it has no name")
                if len(fields) + len(files) == MAX_PARTS:
                    raise TooLarge(f"A form may have at most {MAX_PARTS} files and fields; send the rest in another.")
                part = event
                file = self.stream_factory(None, None, event.filename, None) if isinstance(event, File) else None
            elif isinstance(event, Data) and part is not None:
                if file is not None:
                    file.write(event.data)
                else:
                    text += event.data
                    texts_bytes += len(event.data)
                    self._check_texts(texts_bytes)
                if event.more_data:
                    continue
                if file is not None:
                    file.seek(0)
                    name = part.filename if isinstance(part, File) else ""
                    files.append((part.name, FileStorage(file, name, part.name, headers=part.headers)))
                else:
                    fields.append((part.name, text.decode(errors="replace")))
                    text.clear()

    def _check_texts(self, size_bytes: int) -> None:
        if size_bytes > (self.max_form_memory_size or MAX_TEXT_BYTES):
            raise TooLarge("The texts of this form are larger than this address takes.")


def _events(stream: IO[bytes], boundary: bytes) -> Iterator[Event]:
    """What the body holds, part by part. Raises ValueError when it breaks off."""
    decoder = _Decoder(boundary, max_form_memory_size=4 * _CHUNK_BYTES)
    ended = False
    while not ended:
        chunk = stream.read(_CHUNK_BYTES)
        ended = not chunk
        decoder.receive_data(chunk or None)
        while not isinstance(event := decoder.next_event(), NeedData):
            if isinstance(event, Epilogue):
                return
            yield event


class _Decoder(MultipartDecoder):
    """Looks at the size of a part's headers before it parses them."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        if len(data) > MAX_HEADERS_BYTES:
            raise ValueError(f"the headers of a part have more than {MAX_HEADERS_BYTES} bytes")
        return super()._parse_headers(data)
