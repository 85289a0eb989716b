"""Nothing but results on standard output."""

from __future__ import annotations

import pytest

from services.command_line.output import say, show


def test_remarks_and_results_go_separate_ways_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    long = "clip [bold] :smile: " + "x" * 300
    show(long)
    say("remark")
    assert capsys.readouterr() == (f"{long}\n", "remark\n")
