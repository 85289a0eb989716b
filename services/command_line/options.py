"""Options and value types that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from services.client import DEFAULT_SERVER, Client
from services.command_line.output import say
from shared.settings import load_settings

DEFAULT_FOLDER = Path("~/.local/share/reelmap")


class Folder(click.Path):
    """A folder's path; nothing is none, and not the folder in which a person happens to stand."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; name a folder", param, ctx)
        return super().convert(value, param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")
server_option = click.option(
    "--server",
    metavar="URL",
    help=f"Which Reelmap to talk to.  [default: REELMAP_SERVER, else {DEFAULT_SERVER}]",
)
folder_option = click.option(
    "--folder",
    type=Folder(),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where the data stay between runs.",
)


def connect(server: str | None) -> Client:
    """A client of this server, or of the settings', that shows the key of the settings.

    A key on a command line could be read by everybody on the machine.
    """
    settings = load_settings()
    return Client(server or settings.server or DEFAULT_SERVER, settings.key, on_wait=_say_wait)


def _say_wait(wait_s: float) -> None:
    say(f"The server is asked too often; going on in {wait_s:.0f} s, as it asks.")


class NClusters(click.ParamType[Any]):
    """A whole number from 1, or `auto`."""

    name = "number or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto":
            return value
        return click.IntRange(min=1).convert(value, param, ctx)


class NameValue(click.ParamType[Any]):
    """`name=value`, the value in JSON or else a plain word: a pair for a dict."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, equals, text = value.partition("=")
        if not (name and equals):
            self.fail(f"{value!r} is not of the form name=value", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:  # no JSON, or a number of thousands of digits
            return name, text


def given(**settings: Any) -> dict[str, Any]:
    """Those settings that a person gave; the rest keep their defaults."""
    return {name: value for name, value in settings.items() if value is not None}
