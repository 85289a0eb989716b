"""`reelmap gc` on servers of the settings, and on a data folder whether it runs or not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.cli import commands
from services.local.lock import FolderLock
from services.local.postgres import EmbeddedPostgres
from shared import ownership
from shared.blob_stores import open_blobs
from shared.db import Database, migrate
from shared.folder_blobs import FolderBlobs
from shared.settings import Settings

pytestmark = pytest.mark.integration

HOUR_S = 3600


def gc(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["gc", *map(str, arguments)], catch_exceptions=False)


def orphan(blobs: Path, name: str, *, age_s: float) -> Path:
    path = blobs / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.fixture
def blobs(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of blobs of servers that the settings name."""
    monkeypatch.setenv("REELMAP_DATABASE_URL", database_url)
    monkeypatch.setenv("REELMAP_BLOBS_FOLDER", str(tmp_path / "blobs"))
    monkeypatch.setenv("REELMAP_WORK_FOLDER", str(tmp_path / "work"))
    mark(database_url, tmp_path / "blobs")
    return tmp_path / "blobs"


def mark(database_url: str, blobs: Path) -> None:
    """As the dispatcher does when the store is new."""
    database = Database(database_url)
    ownership.mark(database, FolderBlobs(blobs))
    database.dispose()


def test_a_store_of_another_database_is_refused_until_a_person_says_that_it_is_ours(blobs: Path) -> None:
    (blobs / ownership.MARK).write_text("00000000-0000-0000-0000-00000000abcd")
    old = orphan(blobs, "uploads/old", age_s=25 * HOUR_S)
    for arguments in ((), ("--delete",)):
        refused = gc(*arguments)
        assert refused.exit_code == 1
        assert "belongs to another database, 00000000-0000-0000-0000-00000000abcd" in refused.stderr
        assert "Restore the database that belongs to it first" in refused.stderr
    assert gc("--adopt").exit_code == 0 and old.exists()
    assert gc().exit_code == 1, "only shown"
    assert gc("--adopt", "--delete").exit_code == 0 and not old.exists()
    assert gc().exit_code == 0


def test_what_would_go_is_shown_first_and_goes_when_a_person_says_so(blobs: Path) -> None:
    old = orphan(blobs, "uploads/old", age_s=25 * HOUR_S)
    young = orphan(blobs, "uploads/young", age_s=23 * HOUR_S)
    shown = gc()
    assert shown.exit_code == 0
    assert [line.split()[:6] for line in shown.stdout.splitlines() if "uploads in" in line] == [
        ["uploads", "in", "the", "store", "1", "1"]
    ]
    assert shown.stderr == "1 kB in all. Nothing was removed; `reelmap gc --delete` removes it.\n"
    assert old.exists()
    deleted = gc("--delete")
    assert deleted.exit_code == 0 and deleted.stderr == "Removed, 1 kB in all.\n"
    assert not old.exists() and young.exists()
    assert gc().stderr == "There is nothing to remove.\n"


def test_programs_get_json(blobs: Path) -> None:
    orphan(blobs, "queries/old", age_s=3 * HOUR_S)
    assert all(not heap["count"] for heap in json.loads(gc("--json").stdout)["unused"])
    answer = json.loads(gc("--json", "--older-than", 2, "--delete").stdout)
    assert (answer["deleted"], answer["older_than_hours"]) == (True, 2.0)
    [heap] = [heap for heap in answer["unused"] if heap["count"]]
    assert (heap["kind"], heap["size_bytes"]) == ("query pictures in the store", 1000)
    assert heap["oldest_at"].endswith("+00:00")


def test_an_age_at_which_a_blob_may_wait_for_its_row_is_refused_while_something_may_run(
    blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = gc("--older-than", 0.9)
    assert refused.exit_code == 1
    assert "What is younger than 1.5 hours may belong to work that is being done" in refused.stderr
    monkeypatch.setenv("REELMAP_KEYFRAMES_DEADLINE_S", "36000")
    assert "younger than 10.5 hours" in gc("--older-than", 10).stderr


def test_servers_that_are_away_or_have_another_schema_are_one_sentence(
    blobs: Path, postgres_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELMAP_DATABASE_URL", postgres_server.create_database("never_migrated"))
    assert "another schema" in gc().stderr
    postgres_server.drop_database("never_migrated")
    monkeypatch.setenv("REELMAP_DATABASE_URL", "postgresql+psycopg2://127.0.0.1:9/x")
    away = gc()
    assert (away.exit_code, away.stdout) == (1, "")
    assert away.stderr.startswith("Error: The database does not answer: ")
    monkeypatch.delenv("REELMAP_BLOBS_FOLDER")
    assert gc().exit_code == 2


def test_a_data_folder_is_looked_through_whether_it_runs_or_not(guard, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert "There is no Reelmap in" in gc("--folder", folder).stderr
    folder.mkdir()
    server = EmbeddedPostgres(folder / "postgres", guard, durable=False)
    url = server.start()
    migrate(url)
    mark(url, folder / "blobs")
    young = orphan(folder / "blobs", "pictures/stray/1.jpg", age_s=60)
    # As `reelmap up` does: it holds the folder and runs the server.
    with FolderLock(folder, "a Reelmap"):
        assert "work that is being done" in gc("--folder", folder, "--older-than", 0, "--delete").stderr
        assert gc("--folder", folder, "--delete").exit_code == 0
        server.stop()
    assert young.exists()
    # It does not run, and cannot be started meanwhile: nothing waits for a row.
    assert gc("--folder", folder, "--older-than", 0, "--delete").exit_code == 0
    assert not young.exists()


def test_a_bucket_beside_a_data_folder_is_not_taken_for_its_own(
    guard, object_store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    server = EmbeddedPostgres(folder / "postgres", guard, durable=False)
    migrate(server.start())
    server.stop()
    settings = Settings(own_models={}, **object_store.new_bucket("theirs/"))
    (tmp_path / "picture").write_bytes(b"x")
    open_blobs(settings).put("pictures/theirs/1.jpg", tmp_path / "picture")
    for name, value in settings.to_environ().items():
        monkeypatch.setenv(name, value)
    assert "work that is being done" in gc("--folder", folder, "--older-than", 0, "--delete").stderr
    orphan(folder / "blobs", "pictures/stray/1.jpg", age_s=60)
    refused = gc("--folder", folder, "--delete")
    assert refused.exit_code == 1 and "there are pictures in" in refused.stderr
    assert [entry.name for entry in open_blobs(settings).entries("")] == ["pictures/theirs/1.jpg"]
