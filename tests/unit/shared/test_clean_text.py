"""What others call things becomes one line that is fit to be shown anywhere."""

from __future__ import annotations

import pytest

from shared.clean_text import MAX_QUOTED_CHARACTERS, one_clean_line, quoted


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("", ""),
        ("   ", ""),
        (" \u202e\x00\u200b ", ""),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x9b31mred", "31mred"),
        ("one\r\ntwo\u2028three\x85four\tfive", "one two three four five"),
        (" a\u00a0 \u3000b ", "a b"),
        ("gpj\u202e.mp4", "gpj.mp4"),
        ("\ufeffa\u2066b", "ab"),
        ("\ud800x\U0010ffffy\u0378\ue000", "xy"),
        ("u\u0308ber", "über"),
        ("日本語 🎬 <b>", "日本語 🎬 <b>"),
    ],
)
def test_a_line_keeps_what_can_be_read(text: str, clean: str) -> None:
    assert one_clean_line(text) == clean
    assert one_clean_line(clean) == clean
    assert clean.isprintable()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Not Found", "Not Found"),
        ("\x1b[2Jgone\n\u202e", "[2Jgone"),
        ("x" * MAX_QUOTED_CHARACTERS, "x" * MAX_QUOTED_CHARACTERS),
        ("x" * 1_000_000, "x" * MAX_QUOTED_CHARACTERS + "…"),
        ("\0" * 1_000_000 + "x", ""),
    ],
)
def test_quoted_words_fit_into_a_sentence(words: str, shown: str) -> None:
    assert quoted(words) == shown
