"""`reelmap gc`: removes what nothing uses, once it was seen what that is."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from services.command_line.options import DEFAULT_FOLDER, Folder, json_option
from services.command_line.output import print_json, results, say, table
from shared.wording import size


@click.command()
@click.option("--delete", is_flag=True, help="Remove it. Without this, only show what would go.")
@click.option(
    "--older-than",
    "older_than_hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Leave what is younger. Uploads, query pictures and idempotency keys are kept for 24 hours at least.",
)
@click.option(
    "--folder",
    type=Folder(),
    help="The data folder of `reelmap up` to look through, running or not.  "
    f"[default: {DEFAULT_FOLDER}; with REELMAP_DATABASE_URL set, the servers that the settings name]",
)
@click.option(
    "--adopt",
    is_flag=True,
    help="Take the store for this database's own, although it may be another's: what no row names goes.",
)
@json_option
def gc(delete: bool, older_than_hours: float, folder: Path | None, adopt: bool, as_json: bool) -> None:
    """Remove what no job uses: orphaned pictures and uploads, unfinished ones, leftover folders, old rows.

    The dispatcher does so every hour for what is older than a day. It is safe while everything runs.
    """
    from services.local.doctor import names_servers
    from services.local.gc import collect

    if folder is None and not names_servers():
        folder = DEFAULT_FOLDER
    found = collect(
        folder.expanduser() if folder else None, older_than_s=older_than_hours * 3600, delete=delete, adopt=adopt
    )
    if as_json:
        unused = [{**asdict(garbage), "oldest_at": _time(garbage.oldest_at)} for garbage in found]
        print_json({"deleted": delete, "older_than_hours": older_than_hours, "unused": unused})
        return
    rows = table("what", "how many", "size", "the oldest", right=("how many", "size"))
    for garbage in found:
        rows.add_row(
            garbage.kind,
            f"{garbage.count:,}",
            size(garbage.size_bytes) if garbage.size_bytes else "",
            _time(garbage.oldest_at),
        )
    results().print(rows)
    total_bytes = sum(garbage.size_bytes for garbage in found)
    if not any(garbage.count for garbage in found):
        say("There is nothing to remove.")
    elif delete:
        say(f"Removed, {size(total_bytes)} in all.")
    else:
        say(f"{size(total_bytes)} in all. Nothing was removed; `reelmap gc --delete` removes it.")


def _time(at: float | None) -> Any:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
