"""Lines of a CSV table that spreadsheets open without being told anything, and without running anything. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

#: Without it, Excel reads UTF-8 as the code page of its country.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: A spreadsheet takes a cell that begins like this for a formula, which may call programs and addresses. Full-width
#: characters count, because some spreadsheets make plain ones of them.
_BEGIN_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Where half of the world separates cells, by semicolons or tabs, they begin within ours; quotation marks, which then
#: stand in the middle of a cell, protect nothing.
_BEGINS_WITHIN = re.compile(r"""([;\t\r\n][ "']*)(?=[=+\-@＝＋－＠])""")


def line(values: Iterable[Any]) -> bytes:
    """One line (RFC 4180, UTF-8): None is an empty cell, and what would be a formula has an apostrophe before it.

    Numbers stay as they are, because nobody else chose them.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerow([_harmless(value) if isinstance(value, str) else value for value in values])
    return text.getvalue().encode()


def _harmless(text: str) -> str:
    text = _BEGINS_WITHIN.sub(r"\1'", text)
    return f"'{text}" if text.lstrip(" ").startswith(_BEGIN_FORMULA) else text
