"""`reelmap up`: everything on this machine, in one folder."""

from __future__ import annotations

from pathlib import Path

import click

from services.command_line.options import folder_option
from shared.settings import ACCESS


@click.command()
@folder_option
@click.option("--host", help="Address of the page; 0.0.0.0 lets others in who have a key.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page; 0 takes a free one.  [default: 8000]")
@click.option(
    "--access",
    type=click.Choice(ACCESS),
    help="Whether to ask for keys.  [default: REELMAP_ACCESS, else open on this machine's addresses only]",
)
def up(folder: Path, host: str | None, port: int | None, access: str | None) -> None:
    """Start everything on this machine and stay until Ctrl-C; a later start goes on where this one ended."""
    from services.local.up import run

    run(folder.expanduser(), host, port, say=click.echo, access=access)
