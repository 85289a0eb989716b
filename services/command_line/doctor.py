"""`reelmap doctor`: what is wrong with an installation, and what to do."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from services.command_line.options import DEFAULT_FOLDER, Folder, json_option
from services.command_line.output import print_json, results, say, table
from shared.wording import count

MARKS = {"good": "✓", "bad": "✗", "unknown": "–"}


@click.command()
@click.option(
    "--folder",
    type=Folder(),
    help="The data folder of `reelmap up` to look at.  "
    f"[default: the servers that REELMAP_DATABASE_URL and REELMAP_REDIS_URL name, or else {DEFAULT_FOLDER}]",
)
@click.option("--thorough", is_flag=True, help="Also look for every picture and upload that rows name, and for others.")
@json_option
def doctor(folder: Path | None, thorough: bool, as_json: bool) -> None:
    """Look for what is wrong with an installation, running or not, and say what to do. Exit code 1: something is."""
    from services.local.doctor import examine, names_servers

    if folder is None and not names_servers():
        folder = DEFAULT_FOLDER
    findings = list(examine(None, folder.expanduser() if folder else None, thorough=thorough))
    bad = [finding for finding in findings if finding.verdict == "bad"]
    if as_json:
        print_json({"ok": not bad, "findings": [asdict(finding) for finding in findings]})
    else:
        rows = table("", "what", "found")
        for finding in findings:
            rows.add_row(MARKS[finding.verdict], finding.check, finding.says)
        results().print(rows)
        say(f"{count(len(bad), 'thing')} to mend." if bad else "Nothing is wrong.")
    sys.exit(1 if bad else 0)
