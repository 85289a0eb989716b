"""What people and programs see: results on standard output, progress and remarks on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

# In a pipe no terminal says how wide a line may be, and a cut id is of no use.
PIPE_WIDTH = 200


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent))


def results() -> Console:
    """Where results for people go."""
    return _console(stderr=False)


def remarks() -> Console:
    """Where progress and remarks go, so that a pipe gets the results alone."""
    return _console(stderr=True)


def say(text: str) -> None:
    """A remark for a person. Long lines are left to the terminal, so that commands in them can be copied."""
    remarks().print(text, soft_wrap=True)


def show(text: str) -> None:
    """A line of a result for a person."""
    results().print(text, soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    # Brackets in names of videos are no markup.
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def table(*columns: str, right: Iterable[str] = (), title: str | None = None) -> Table:
    """An empty table. right: the columns of numbers. The first column, an id mostly, is never broken."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in set(right) else "left",
            no_wrap=column == columns[0],
            overflow="fold",
        )
    return made


def bars(console: Console, *columns: ProgressColumn) -> Progress:
    """Progress bars: shown on a terminal, nothing at all in a pipe. columns: in place of `3/12`."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *(columns or (MofNCompleteColumn(),)),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def short_id(id_: str) -> str:
    """As much of an id as a person types; every command takes it where it is unique."""
    return id_[:8]


def local_time(moment: str) -> str:
    """`2026-01-31 13:05`, in this machine's time zone, of a time as the API writes it."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
