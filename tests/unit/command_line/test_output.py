"""Numbers as people read them, and nothing but results on standard output."""

from __future__ import annotations

import pytest

from services.command_line.output import clock, counted, percent, say, show


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00.0"),
        (9.96, "0:10.0"),
        (59.99, "1:00.0"),
        (75.25, "1:15.2"),
        (3599.97, "1:00:00.0"),
        (3661.5, "1:01:01.5"),
    ],
)
def test_a_time_is_shown_as_players_do(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_a_share_is_shown_in_percent_and_no_share_as_nothing() -> None:
    assert (percent(0.987), percent(None)) == ("98.7 %", "")


def test_remarks_and_results_go_separate_ways_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    long = "clip [bold] :smile: " + "x" * 300
    show(long)
    say("remark")
    assert capsys.readouterr() == (f"{long}\n", "remark\n")


@pytest.mark.parametrize(("number", "words"), [(0, "0 sources"), (1, "1 source"), (2, "2 sources")])
def test_a_number_agrees_with_its_word(number, words):
    assert counted(number, "source") == words
