"""A job's progress while it runs: a bar per stage on a terminal, now and then a line in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn

from services.client import FINAL_STATES, Json
from services.command_line.output import bars
from shared.pipeline import JOB_STAGES
from shared.wording import state as in_words

LINE_EVERY_S = 5.0


def show_progress(job_versions: Iterable[Json], console: Console) -> Json:
    """Show each version of a job as it comes, at least one. Returns the last."""
    return (_show_bars if console.is_terminal else _show_lines)(job_versions, console)


def _show_bars(job_versions: Iterable[Json], console: Console) -> Json:
    with bars(console, MofNCompleteColumn(), TextColumn("{task.fields[remark]}", markup=False)) as progress:
        rows = {stage: progress.add_task(stage.label, total=None, remark="") for stage in JOB_STAGES}
        for job in job_versions:
            for stage, row in rows.items():
                counts = job["progress"][stage]
                # Later stages learn how much they have to do from the earlier ones.
                progress.update(row, completed=done(counts), total=counts["total"] or None, remark=_remark(counts))
        return job


def _show_lines(job_versions: Iterable[Json], console: Console) -> Json:
    said, said_at = "", 0.0
    for job in job_versions:
        line = one_line(job)
        is_due = time.monotonic() - said_at >= LINE_EVERY_S or job["state"] in FINAL_STATES
        if line != said and is_due:
            console.print(line)
            said, said_at = line, time.monotonic()
    return job


def one_line(job: Json) -> str:
    """`running: key frames 3/24 (1 failed), embedding 0/2, clustering 0/0`."""
    return f"{in_words(job['state'])}: {', '.join(_stage(stage.label, job['progress'][stage]) for stage in JOB_STAGES)}"


def _stage(title: str, counts: dict[str, Any]) -> str:
    not_done = ", ".join(f"{counts[state]} {state}" for state in ("failed", "cancelled") if counts[state])
    return f"{title.lower()} {done(counts)}/{counts['total']}" + (f" ({not_done})" if not_done else "")


def done(counts: dict[str, Any]) -> int:
    """How many of a stage's tasks are over, in whatever way."""
    return int(counts["succeeded"] + counts["failed"] + counts["cancelled"])


def _remark(counts: dict[str, Any]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in ("running", "failed", "cancelled") if counts[state])
