"""The console script `reelmap`: a client of the API, `reelmap up`, and each stage by itself on files."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

import click

from services.command_line import backup, doctor, explore, exports, gc, jobs, keys, server, stages
from services.command_line.failures import as_click_errors
from shared.threads import patient_threads


class Commands(click.Group):
    """The commands, whose failures are told in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        with as_click_errors():
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="reelmap")
def commands() -> None:
    """Reelmap answers: what is in my videos?

    `reelmap up` starts it on this machine; the other commands talk to it, and keyframes, embed and cluster work on
    files by themselves.

    Exit codes: 0 done, 1 the work failed, 2 the command or a setting is wrong, 3 a job that was followed partly failed.
    """


for command in (
    server.up,
    backup.backup,
    backup.restore,
    doctor.doctor,
    gc.gc,
    jobs.submit,
    jobs.jobs,
    jobs.status,
    jobs.sources,
    jobs.correct,
    jobs.remove,
    explore.clusterings,
    explore.clusters,
    explore.frames,
    explore.search,
    exports.export,
    jobs.cancel,
    jobs.retry,
    jobs.delete,
    explore.models,
    keys.keys,
    stages.keyframes,
    stages.embed,
    stages.cluster,
):
    commands.add_command(command)


def main() -> None:
    """Run the command line."""
    os.environ.update(patient_threads(os.environ))
    signal.signal(signal.SIGTERM, _end)
    sys.exit(commands())


def _end(*_: object) -> NoReturn:
    """An exception, as Ctrl-C is one: what a command has begun, it takes back or names."""
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
