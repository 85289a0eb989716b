"""Keys from the command line, straight in the database: the first one is made before anybody could sign in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.command_line.options import DEFAULT_FOLDER, Folder, json_option
from services.command_line.output import local_time, print_json, results, say, show, table
from shared.errors import ErrorKind, PermanentError
from shared.roles import Role
from shared.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shared.keys import Key

DEFAULT_PROJECT = "default"
UNDEFINED_TABLE = "42P01"

folder_option = click.option(
    "--folder",
    type=Folder(),
    help=f"Whose keys: the data folder of `reelmap up`, running or not.  [default: {DEFAULT_FOLDER}; with "
    "REELMAP_DATABASE_URL set, that database]",
)


@click.group()
def keys() -> None:
    """Make, list and revoke the keys that people and programs show to the API."""


@keys.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    required=True,
    help="Readers look and search, writers also submit, change and delete, admins also make keys.",
)
@click.option("--project", default=DEFAULT_PROJECT, show_default=True, help="Whose jobs it sees; made if need be.")
@folder_option
@json_option
def add(name: str, role: str, project: str, folder: Path | None, as_json: bool) -> None:
    """Make a key and print it, this once."""
    from shared.keys import add_key, project_id_of

    with _transaction(folder, make=True) as connection:
        project_id = project_id_of(connection, project, make=True)
        assert project_id
        key, text = add_key(connection, project_id, name, Role(role))
    if as_json:
        print_json({**_plain(key), "key": text})
        return
    show(text)
    say(
        f"This is the key {key.name!r}, {key.role} of the project {key.project!r}. It is shown this once: keep it safe."
    )
    say("Programs send it as `Authorization: Bearer …`, the reelmap commands read it from REELMAP_KEY.")


@keys.command(name="list")
@click.option("--project", help="Only the keys of this project.")
@folder_option
@json_option
def list_(project: str | None, folder: Path | None, as_json: bool) -> None:
    """List the keys, revoked ones too, without their secrets."""
    from shared.keys import list_keys, project_id_of

    with _transaction(folder) as connection:
        project_id = None if project is None else project_id_of(connection, project, make=False)
        if project is not None and project_id is None:
            raise PermanentError(ErrorKind.NOT_FOUND, f"There is no project {project!r}.")
        found = [_plain(key) for key in list_keys(connection, project_id)]
    if as_json:
        print_json({"keys": found})
        return
    rows = table("begins with", "name", "role", "project", "made", "last used", "revoked")
    for key in found:
        rows.add_row(
            f"rmk_{key['prefix']}",
            key["name"],
            key["role"],
            key["project"],
            local_time(key["created_at"]),
            local_time(key["last_used_at"]) if key["last_used_at"] else "never",
            local_time(key["revoked_at"]) if key["revoked_at"] else "",
        )
    results().print(rows)


@keys.command()
@click.argument("key", metavar="NAME|ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@folder_option
@json_option
def revoke(key: str, yes: bool, folder: Path | None, as_json: bool) -> None:
    """Make a key useless for good, within two seconds also where an API is running."""
    from shared.keys import find_usable, revoke_key

    with _transaction(folder) as connection:
        found = find_usable(connection, key.removeprefix("rmk_"))
        if not found:
            # Not repeated: it may have been the whole key.
            raise PermanentError(
                ErrorKind.NOT_FOUND, "There is no usable key of that name or id; see `reelmap keys list`."
            )
        if len(found) > 1:
            ids = ", ".join(f"{one.id} ({one.project})" for one in found)
            raise PermanentError(
                ErrorKind.BAD_PARAMETERS, f"Several projects have a key of that name; say which by its id: {ids}"
            )
        if not yes:
            click.confirm(
                f"Revoke the key {found[0].name!r} (rmk_{found[0].prefix}), {found[0].role} of the project "
                f"{found[0].project!r}, for good?",
                abort=True,
                err=True,
            )
        revoke_key(connection, found[0].id)
    if as_json:
        print_json({"revoked": found[0].id})
    else:
        show(f"Revoked the key {found[0].name!r} (rmk_{found[0].prefix}) of the project {found[0].project!r}")


def _plain(key: Key) -> dict[str, Any]:
    """A key as JSON values."""
    return {
        name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
        for name, value in asdict(key).items()
        if name != "project_id"
    }


@contextmanager
def _transaction(folder: Path | None, *, make: bool = False) -> Iterator[Connection]:
    """A transaction in the database of the folder, or of the settings when no folder is named.

    make: a folder that holds none gets one, and one that is not running the newest schema.
    """
    settings = load_settings()
    if folder is None and settings.database_url:
        with _transaction_at(settings.database_url) as connection:
            yield connection
        return
    from services.local.installation import open_installation
    from shared.db import migrate

    with open_installation((folder or DEFAULT_FOLDER).expanduser(), make=make) as opened:
        if make and not opened.is_running:  # who only looks or revokes changes no schema
            migrate(opened.database_url)
        with _transaction_at(opened.database_url) as connection:
            yield connection


@contextmanager
def _transaction_at(url: str) -> Iterator[Connection]:
    from sqlalchemy.exc import DBAPIError

    from shared.db import Database, is_unavailable

    database = Database(url)
    try:
        with database.transaction() as connection:
            yield connection
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) == UNDEFINED_TABLE:
            raise PermanentError(
                ErrorKind.STORE_UNAVAILABLE,
                "The database has no keys yet, for its schema is older than this version. Migrate it, see "
                "docs/operations.md; a Reelmap that `reelmap up` runs does so when it is started again.",
            ) from None
        if not is_unavailable(error):
            raise
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE, f"The database does not answer: {str(error.orig).strip()}"
        ) from None
    finally:
        database.dispose()
