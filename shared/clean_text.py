"""Words of others, names and titles and sentences, in a form that steers no terminal and no page."""

from __future__ import annotations

import unicodedata

#: Of a stranger's sentence within one of ours.
MAX_QUOTED_CHARACTERS = 200


def one_clean_line(text: str) -> str:
    """One line in NFC, white space collapsed, without characters that are controls, text directions or no text at all.

    May be empty.
    """
    kept = "".join(
        " " if c.isspace() else c for c in text if c.isspace() or not unicodedata.category(c).startswith("C")
    )
    return " ".join(unicodedata.normalize("NFC", kept).split())


def quoted(words: str) -> str:
    """What a server, a site or a library said, fit to stand in a sentence of ours: one clean line, cut where it is
    long."""
    # Cut twice: what comes in may be megabytes, and cleaning changes the length.
    line = one_clean_line(words[: 4 * MAX_QUOTED_CHARACTERS])
    return line if len(line) <= MAX_QUOTED_CHARACTERS else line[:MAX_QUOTED_CHARACTERS].rstrip() + "…"
