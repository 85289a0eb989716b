"""Answers in fewer bytes, where nobody can learn anything from how many.

Who sees the length of an encrypted answer, and can have a browser ask for a page with a text of his own in it, can
guess what else is in that page: right guesses compress better (BREACH). Therefore

- an answer that holds a secret, which is one that says `no-store` (a new key), is never compressed. Forms carry no
  token, see `origins`, and the cookie of a sign-in is in no body;
- nor is one that another site made a browser ask for; sources' addresses may hold secrets of their own.

Pictures and archives are compressed already; a part of a file is left as it is.
"""

from __future__ import annotations

from flask import Flask, Response, request
from flask_compress import Compress

ENCODINGS = ("zstd", "br", "gzip")

CONFIG = {
    "COMPRESS_REGISTER": False,  # by `compress` below
    "COMPRESS_ALGORITHM": list(ENCODINGS),
    "COMPRESS_STREAMS": False,  # what does not fit into memory, and a file that would be left open
    "COMPRESS_MIMETYPES": [
        *("text/html", "text/css", "text/javascript", "application/javascript", "application/json"),
        "image/svg+xml",
    ],
}

#: Files of ours, small enough to be read whole.
_OUR_FILES = ("static", "docs_file")

#: What a browser says of requests that our own pages or a person caused; programs say nothing.
_OURS = (None, "same-origin", "none")


def register(app: Flask) -> None:
    """Compress what `app` answers: the last thing that is done to an answer, so the first to be registered."""
    app.config.update(CONFIG)
    compressing = Compress(app)

    def compress(response: Response) -> Response:
        response.vary.add("Accept-Encoding")
        is_part = "Content-Range" in response.headers or "Range" in request.headers
        is_wanted = any(request.accept_encodings.quality(name) > 0 for name in ENCODINGS)
        if is_part or not is_wanted or response.cache_control.no_store:
            return response
        if request.headers.get("Sec-Fetch-Site") not in _OURS:
            return response
        if request.endpoint in _OUR_FILES and response.status_code == 200:
            response.direct_passthrough = False
            response.make_sequence()  # and its file is closed with the answer
        return compressing.after_request(response)

    app.after_request(compress)
