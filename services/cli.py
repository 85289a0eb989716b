"""The console script `reelmap`: a client of the API, `reelmap up`, and each stage by itself on files."""

from __future__ import annotations

import sys
from typing import Any

import click

from services.client import ApiError
from services.command_line import found, jobs, server, stages
from shared.catalog import BadParameter, UnknownName
from shared.errors import ReelmapError
from shared.settings import SettingError


class Commands(click.Group):
    """The commands, with the ways they can fail turned into one line and an exit code.

    2: the command, its parameters or the settings are wrong; 1: the work failed.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except (UnknownName, BadParameter, SettingError) as error:
            raise click.UsageError(str(error)) from error
        except ReelmapError as error:
            raise click.ClickException(error.message) from error
        except ApiError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise  # the reader of our output had enough; click ends quietly
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise click.ClickException(f"{error.strerror or error}{where}") from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="reelmap")
def commands() -> None:
    """Reelmap answers: what is in my videos?

    `reelmap up` starts it on this machine; the other commands talk to it, and keyframes, embed and cluster work on
    files by themselves.
    """


for command in (
    server.up,
    jobs.submit,
    jobs.jobs,
    jobs.status,
    jobs.sources,
    found.clusters,
    found.search,
    jobs.cancel,
    jobs.retry,
    jobs.delete,
    found.models,
    stages.keyframes,
    stages.embed,
    stages.cluster,
):
    commands.add_command(command)


def main() -> None:
    """Run the command line."""
    sys.exit(commands())


if __name__ == "__main__":
    main()
