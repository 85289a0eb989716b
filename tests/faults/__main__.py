"""`make faults` and `make soak`: break a running Reelmap in every way on the list, and see that nothing is lost."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from tests.faults import report
from tests.faults.installation import Broken
from tests.faults.scene import PRODUCTION, SHORT, Scene, Timing, scene
from tests.faults.soak import Soak

TIMINGS = {"short": SHORT, "production": PRODUCTION}

timing_option = click.option(
    "--timing",
    type=click.Choice(list(TIMINGS)),
    default="short",
    show_default=True,
    help="short: a lease of 6 s and outages of seconds; production: the default settings, and outages of minutes.",
)
seed_option = click.option("--seed", type=int, help="Of everything that is left to chance.  [default: a new one]")
logs_option = click.option(
    "--keep-logs", type=click.Path(path_type=Path), help="Where the logs of all processes go when something broke."
)


@click.group()
def main() -> None:
    """Break a running Reelmap, and see that nothing is lost."""


@main.command("list")
def list_faults() -> None:
    """Name every fault."""
    for fault in report.FAULTS.values():
        click.echo(f"{fault.id:4} {fault.injected}")


@main.command()
@click.argument("ids", nargs=-1, metavar="[FAULT]...")
@timing_option
@seed_option
@logs_option
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every line as JSON there, too.")
def run(ids: Sequence[str], timing: str, seed: int | None, keep_logs: Path | None, json_path: Path | None) -> None:
    """Do the named faults, or all, one after the other; a line for each. Fails unless all are survived."""
    if unknown := set(ids) - set(report.FAULTS):
        raise click.UsageError(f"there is no fault {', '.join(sorted(unknown))}; see `list`")
    seed = _seed(seed)
    lines: list[report.Line] = []
    # A scene that something broke is of no use to the next fault.
    left = [report.FAULTS[id] for id in ids or report.FAULTS]
    left.sort(key=lambda fault: fault.in_a_bucket)
    while left:
        alike = [fault for fault in left if fault.in_a_bucket == left[0].in_a_bucket]
        with _scene(TIMINGS[timing], seed, keep_logs, in_a_bucket=left[0].in_a_bucket) as here:
            for line in report.run(here, alike, seed):
                click.echo(line)
                lines.append(line)
                left = left[1:]
                if line.is_broken:
                    _keep(here, keep_logs)
                    break
        if json_path:
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(json.dumps([line.as_json() for line in lines], indent=1))
    survived = sum(line.is_survived for line in lines)
    not_here = sum(line.is_not_here for line in lines)
    failed = len(lines) - survived - not_here
    click.echo(f"{survived} survived, {failed} not, {not_here} not possible on this machine")
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FILE...")
def table(paths: Sequence[Path]) -> None:
    """Print what `run --json` wrote as a table in Markdown."""
    lines = [line for path in paths for line in json.loads(path.read_text())]
    click.echo("| fault | injected | what is measured | s | attempts | verdict |\n|---|---|---|---|---|---|")
    for line in sorted(lines, key=lambda line: (len(line["id"].rstrip("bcde")), line["id"])):
        seconds = "" if line["recovery_s"] is None else f"{line['recovery_s']:.1f}"
        cells = (line["id"], line["injected"], line["measures"], seconds, line["attempts"] or "", line["verdict"])
        click.echo("| " + " | ".join(map(str, cells)) + " |")


@main.command()
@click.option("--minutes", type=float, default=20, show_default=True)
@timing_option
@seed_option
@logs_option
def soak(minutes: float, timing: str, seed: int | None, keep_logs: Path | None) -> None:
    """Inject faults at random over jobs that keep coming. The same seed injects the same faults at the same seconds."""
    seed = _seed(seed)
    began_at = time.monotonic()
    with _scene(TIMINGS[timing], seed, keep_logs) as here:
        try:
            summary = Soak(here, seed, click.echo).run(minutes)
        except Exception as error:
            _keep(here, keep_logs)
            if not isinstance(error, Broken):
                raise
            click.echo(f"soak, seed {seed}: BROKEN: {error}")
            sys.exit(1)
    click.echo(f"soak, seed {seed}, {time.monotonic() - began_at:.0f} s: survived: {summary}")


def _seed(seed: int | None) -> int:
    seed = random.SystemRandom().randrange(1, 2**31) if seed is None else seed
    click.echo(f"seed {seed}")
    return seed


@contextmanager
def _scene(timing: Timing, seed: int, keep_logs: Path | None, *, in_a_bucket: bool = False) -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="reelmap-faults-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # embedded Postgres may run as another user
        with scene(Path(folder), timing, seed, in_a_bucket=in_a_bucket) as here:
            yield here


def _keep(here: Scene, folder: Path | None) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for log in here.installation.logs.iterdir():
            (folder / log.name).write_bytes(log.read_bytes())
        click.echo(f"the logs are in {folder}")


if __name__ == "__main__":
    main()
