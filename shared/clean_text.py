"""Words of others, names and titles, in a form that steers no terminal and no page."""

from __future__ import annotations

import unicodedata


def one_clean_line(text: str) -> str:
    """One line in NFC, white space collapsed, without characters that are controls, text directions or no text at all.

    May be empty.
    """
    kept = "".join(
        " " if c.isspace() else c for c in text if c.isspace() or not unicodedata.category(c).startswith("C")
    )
    return " ".join(unicodedata.normalize("NFC", kept).split())
