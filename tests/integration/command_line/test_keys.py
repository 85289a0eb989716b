"""`reelmap keys` on a database of the settings, and on a data folder whether it runs or not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from services.cli import commands
from services.local.lock import FolderLock
from services.local.postgres import EmbeddedPostgres
from shared import keys
from shared.db import Database, migrate

pytestmark = pytest.mark.integration

KEY = re.compile(r"rmk_[0-9a-f]{8}_[0-9a-f]{64}\n")


@pytest.fixture
def reelmap(database_url: str, monkeypatch: pytest.MonkeyPatch):
    """Runs `reelmap keys …` on a database of this test's own."""
    monkeypatch.setenv("REELMAP_DATABASE_URL", database_url)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(commands, ["keys", *map(str, arguments)], catch_exceptions=False)

    return run


def test_a_key_is_printed_alone_on_standard_output_and_works(reelmap, database: Database) -> None:
    added = reelmap("add", "ci", "--role", "writer", "--project", "films")
    assert added.exit_code == 0
    assert KEY.fullmatch(added.stdout)
    assert "shown this once" in added.stderr and added.stdout.strip() not in added.stderr
    with database.transaction() as connection:
        key = keys.authenticate(connection, added.stdout.strip())
    assert key is not None
    assert (key.name, key.role, key.project) == ("ci", "writer", "films")

    listed = json.loads(reelmap("list", "--json").stdout)["keys"]
    assert [(each["name"], each["project"], each["revoked_at"]) for each in listed] == [("ci", "films", None)]
    assert listed[0]["last_used_at"] is not None
    assert added.stdout.strip().rsplit("_", 1)[-1] not in reelmap("list").stdout
    assert "ci" in reelmap("list", "--project", "films").stdout
    assert "no project 'music'" in reelmap("list", "--project", "music").stderr

    assert reelmap("revoke", "ci", "--yes").stdout.startswith("Revoked the key 'ci'")
    with database.transaction() as connection:
        assert keys.authenticate(connection, added.stdout.strip()) is None
    assert "no usable key" in reelmap("revoke", "ci", "--yes").stderr


def test_a_key_is_named_by_name_prefix_or_id_and_doubt_is_said(reelmap) -> None:
    first = json.loads(reelmap("add", "ci", "--role", "reader", "--json").stdout)
    second = json.loads(reelmap("add", "ci", "--role", "reader", "--project", "films", "--json").stdout)
    assert KEY.fullmatch(first["key"] + "\n")
    doubt = reelmap("revoke", "ci", "--yes")
    assert doubt.exit_code == 1
    assert first["id"] in doubt.stderr and second["id"] in doubt.stderr
    assert json.loads(reelmap("revoke", second["id"], "--yes", "--json").stdout) == {"revoked": second["id"]}
    assert reelmap("revoke", f"rmk_{first['prefix']}", "--yes").exit_code == 0


def test_a_wrong_command_says_what_is_wrong_and_repeats_no_key(reelmap) -> None:
    text_ = reelmap("add", "ci", "--role", "reader").stdout.strip()
    assert reelmap("add", "ci", "--role", "god").exit_code == 2
    assert reelmap("add", "ci").exit_code == 2
    assert "already" in reelmap("add", "ci", "--role", "reader").stderr
    assert "printable" in reelmap("add", "a\nb", "--role", "reader").stderr
    refused = reelmap("revoke", text_, "--yes")
    assert refused.exit_code == 1
    assert text_ not in refused.output


def test_a_database_that_is_old_or_away_is_one_sentence(
    reelmap, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as connection:
        connection.execute(text("DROP TABLE api_keys"))
    assert "schema is older" in reelmap("list").stderr
    monkeypatch.setenv("REELMAP_DATABASE_URL", "postgresql+psycopg2://127.0.0.1:9/x")
    away = reelmap("list")
    assert (away.exit_code, away.stdout) == (1, "")
    assert "does not answer" in away.stderr


def test_looking_and_revoking_change_no_schema_of_a_folder(guard, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    server = EmbeddedPostgres(folder / "postgres", guard, durable=False)
    server.start()
    server.stop()
    for arguments in (["list"], ["revoke", "ada"]):
        result = CliRunner().invoke(commands, ["keys", *arguments, "--folder", str(folder)])
        assert result.exit_code == 1
        assert "schema is older" in result.stderr
    database = Database(server.start())
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar() == 0
    database.dispose()
    server.stop()


def test_a_data_folder_is_used_whether_its_reelmap_runs_or_not(guard, tmp_path: Path) -> None:
    def run(*arguments: object) -> Result:
        given = ["keys", *map(str, arguments), "--folder", str(tmp_path / "data")]
        return CliRunner().invoke(commands, given, catch_exceptions=False)

    assert "There is no Reelmap in" in run("list").stderr
    assert KEY.fullmatch(run("add", "first", "--role", "admin").stdout)
    # As `reelmap up` does: it holds the folder and runs the server.
    with FolderLock(tmp_path / "data", "a Reelmap"):
        assert "just starting" in run("list").stderr
        server = EmbeddedPostgres(tmp_path / "data" / "postgres", guard, durable=False)
        migrate(server.start())
        assert run("add", "second", "--role", "reader").exit_code == 0
        server.stop()
    assert {key["name"] for key in json.loads(run("list", "--json").stdout)["keys"]} == {"first", "second"}
