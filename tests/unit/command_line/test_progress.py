"""A job's progress: lines in a pipe, bars on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from services.command_line.progress import show_progress
from shared.pipeline import JOB_STAGES


def job(state: str, *counts: tuple[int, int]) -> dict:
    return {
        "state": state,
        "progress": {
            stage: {
                "queued": 0,
                "running": total - done,
                "succeeded": done,
                "failed": 0,
                "cancelled": 0,
                "total": total,
            }
            for stage, (done, total) in zip(JOB_STAGES, counts, strict=True)
        },
    }


def test_in_a_pipe_there_are_lines_and_no_bars() -> None:
    out = io.StringIO()
    versions = [job("running", (1, 4), (0, 0), (0, 0)), job("succeeded", (4, 4), (4, 4), (1, 1))]
    last = show_progress(versions, Console(file=out, width=200))
    assert last["state"] == "succeeded"
    assert out.getvalue().splitlines() == [
        "running: key frames 1/4, embedding 0/0, clustering 0/0",
        "succeeded: key frames 4/4, embedding 4/4, clustering 1/1",
    ]


def test_on_a_terminal_there_is_a_bar_for_each_stage() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    show_progress([job("running", (1, 4), (1, 2), (0, 0)), job("succeeded", (4, 4), (4, 4), (1, 1))], console)
    assert "━" in out.getvalue()
    assert all(title in out.getvalue() for title in ("Key frames", "Embedding", "Clustering", "4/4", "1/1"))
