"""A data folder in one file and back: while it runs, while it does not, and never half."""

from __future__ import annotations

import json
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis
from sqlalchemy import text

from services.cli import commands
from services.dispatcher.dispatch import Dispatcher
from services.local import backup as local
from services.local.archive import new_archive, read_archive
from services.local.installation import open_installation
from services.local.lock import FolderLock
from services.local.supervisor import Supervisor
from shared.db import Database, migrate
from shared.errors import PermanentError
from shared.folder_blobs import FolderBlobs
from shared.tables import metadata

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reelmap"


@dataclass
class Running:
    """A data folder whose servers run until `stop`."""

    database: Database
    stop: Callable[[], None]


@pytest.fixture
def running(folder, make_rows) -> Iterator[Running]:
    """With a job that has vectors, a queued task that was sent, and a running one; and with blobs."""
    with ExitStack() as stack:
        supervisor = Supervisor(folder, migrate=migrate, children=lambda *_: (), say=lambda line: None, durable=False)
        stack.enter_context(supervisor)
        supervisor.start()
        with open_installation(folder) as installation:
            assert installation.is_running
            database = Database(installation.database_url)
        stack.callback(database.dispose)
        fill(make_rows(database), folder)
        yield Running(database, stack.close)


def fill(rows: Any, folder: Path) -> None:
    rows.job(sources=3)
    done, sent, taken = rows.task_ids("keyframes")
    [claim] = rows.claim(done)
    rows.cut_up(claim)
    [claim] = rows.claim(*rows.task_ids("embedding"))
    rows.embed(claim, dimension=300)
    rows.claim(taken, lease_s=-1)
    rows.do("UPDATE tasks SET sent_at = now() WHERE id = :id", id=sent)
    rows.do("UPDATE jobs SET name = 'ünïcode, \\\\ and \"lines\"' || chr(10)")
    put(folder, "pictures/1/0000001.jpg", b"\xff\xd8 first")
    put(folder, "uploads/2", bytes(200_000))


def put(folder: Path, name: str, content: bytes) -> None:
    source = folder / "source"
    source.write_bytes(content)
    FolderBlobs(folder / "blobs").put(name, source)
    source.unlink()


def all_rows(database: Database) -> dict[str, Sequence[Any]]:
    """Every row of every table, as the database writes it."""
    with database.transaction() as connection:
        return {
            table: connection.execute(text(f"SELECT CAST(t AS text) FROM {table} t ORDER BY 1")).scalars().all()
            for table in [*metadata.tables, "alembic_version"]
        }


def all_blobs(folder: Path) -> dict[str, bytes]:
    return {name: FolderBlobs(folder / "blobs").read(name) for name, *_ in FolderBlobs(folder / "blobs").entries("")}


def rows_of(folder: Path) -> dict[str, Sequence[Any]]:
    with open_installation(folder) as installation:
        database = Database(installation.database_url)
        try:
            return all_rows(database)
        finally:
            database.dispose()


def test_all_of_a_running_reelmap_comes_back_and_its_work_goes_on(running, folder, tmp_path, redis_url):
    before = all_rows(running.database), all_blobs(folder)
    file, other = tmp_path / "backup.tar", tmp_path / "elsewhere" / "restored"
    contents = local.backup(folder, file)
    assert (contents.blobs, contents.blobs_bytes) == (2, 200_000 + 8)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert local.restore(file, other) == contents
    assert (rows_of(other), all_blobs(other)) == before
    assert sorted(path.name for path in other.iterdir()) == ["blobs", "lock", "postgres"]

    with open_installation(other) as installation, Redis.from_url(redis_url) as redis:
        database = Database(installation.database_url)
        sent: list[str] = []
        Dispatcher(
            database=database,
            redis=redis,
            send=lambda queue, task_id: sent.append(task_id),
            sent_window=500,
            fetches_per_host=4,
            resend_after_s=60,
        ).turn()
        database.dispose()
    assert len(sent) == 2, "the task that was sent, and the one whose worker is not here"


def test_all_of_a_stopped_reelmap_comes_back(running, folder, tmp_path):
    before = all_rows(running.database), all_blobs(folder)
    running.stop()
    local.backup(folder, tmp_path / "backup.tar")
    local.restore(tmp_path / "backup.tar", tmp_path / "restored")
    assert (rows_of(tmp_path / "restored"), all_blobs(tmp_path / "restored")) == before


def test_a_folder_whose_pictures_are_in_a_bucket_is_not_half_backed_up(running, folder, tmp_path):
    (folder / "blobs").rename(tmp_path / "elsewhere")
    with pytest.raises(PermanentError, match="are not in it but in a bucket"):
        local.backup(folder, tmp_path / "backup.tar")
    assert not (tmp_path / "backup.tar").exists()


def test_a_blob_that_comes_in_meanwhile_is_there_when_its_row_is(running, folder, tmp_path, monkeypatch):
    """After the first look at the blobs and before the snapshot of the rows."""
    export = local._snapshot

    def snapshot(database_url: str) -> Any:
        put(folder, "pictures/3/0000009.jpg", b"late")
        with running.database.transaction() as connection:
            connection.execute(text("UPDATE key_frames SET blob = 'pictures/3/0000009.jpg' WHERE position = 0"))
        return export(database_url)

    monkeypatch.setattr(local, "_snapshot", snapshot)
    local.backup(folder, tmp_path / "backup.tar")
    names = [name for name, _ in read_archive(tmp_path / "backup.tar")]
    assert names.count("blobs/pictures/3/0000009.jpg") == 1
    assert names.count("blobs/uploads/2") == 1, "young as well, and not put in twice"
    local.restore(tmp_path / "backup.tar", tmp_path / "restored")
    assert any("pictures/3/0000009.jpg" in row for row in rows_of(tmp_path / "restored")["key_frames"])


def test_what_a_person_runs(running, folder, tmp_path):
    file, other = tmp_path / "backup.tar", tmp_path / "restored"
    done = CliRunner().invoke(commands, ["backup", str(file), "--folder", str(folder)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("Backed up 2 files (200 kB) and the database (")
    again = CliRunner().invoke(commands, ["backup", str(file), "--folder", str(folder)])
    assert (again.exit_code, again.stderr) == (1, f"Error: {file} is there already; choose another name.\n")
    occupied = CliRunner().invoke(commands, ["restore", str(file), "--folder", str(folder)])
    assert (occupied.exit_code, "has something in it" in occupied.stderr) == (1, True)
    restored = CliRunner().invoke(commands, ["restore", str(file), "--folder", str(other), "--json"])
    assert json.loads(restored.stdout)["blobs"] == 2


def test_a_damaged_backup_leaves_nothing(running, folder, tmp_path):
    file = tmp_path / "backup.tar"
    local.backup(folder, file)
    content = bytearray(file.read_bytes())
    content[content.index(b"PGDMP") + 3000] ^= 1
    file.write_bytes(content)
    with pytest.raises(PermanentError, match=r"database\.dump is not what was written"):
        local.restore(file, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(PermanentError):
        local.restore(file, tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("newer", [{"format": 2}, {"postgres": 19}, {"schema": "9999"}])
def test_a_backup_of_a_newer_version_is_refused(tmp_path, newer):
    manifest = {"format": 1, "reelmap": "0.9", "postgres": 18, "schema": "0001", "created_at": ""}
    with new_archive(tmp_path / "backup.tar") as archive:
        archive.add_bytes("reelmap-backup.json", json.dumps({**manifest, **newer}).encode())
    with pytest.raises(PermanentError, match=r"written by Reelmap 0\.9 .* Restore it with that version"):
        local.restore(tmp_path / "backup.tar", tmp_path / "restored")


MANIFEST = {"format": 1, "reelmap": "0.1", "postgres": 18, "schema": "0001", "created_at": ""}


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{", b"{}", b"[]", b"\xff", b"[" * 60_000, json.dumps({**MANIFEST, "schema": ["0001"]}).encode(),
     json.dumps({**MANIFEST, "format": "1"}).encode(), json.dumps(MANIFEST).encode() + b" " * 70_000],
    ids=["empty", "half", "without a word", "a list", "no text", "nested", "a list for a word", "a word for a number",
         "far too long"],
)  # fmt: skip
def test_a_manifest_that_is_none_is_said(tmp_path, manifest):
    with new_archive(tmp_path / "backup.tar") as archive:
        archive.add_bytes("reelmap-backup.json", manifest)
    with pytest.raises(PermanentError, match=r"is not a whole backup of Reelmap: reelmap-backup\.json in it cannot be"):
        local.restore(tmp_path / "backup.tar", tmp_path / "restored")
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


def test_a_manifest_is_not_read_further_than_it_can_be_long(tmp_path):
    read = []
    with new_archive(tmp_path / "backup.tar") as archive:
        archive.add_bytes("reelmap-backup.json", bytes(10_000_000))
    with pytest.raises(PermanentError, match="cannot be read"):
        local.restore(tmp_path / "backup.tar", tmp_path / "restored", read.append)
    assert sum(read) < 70_000


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([], "there is nothing in it"),
        (["reelmap-backup.json"], r"database\.dump is missing"),
        (["reelmap-backup.json", "blobs/a", "blobs/a"], "blobs/a is in it twice"),
        (["reelmap-backup.json", "database.dump", "database.dump"], r"database\.dump is in it twice"),
        (["reelmap-backup.json", "blobs/a", "blobs/a/b"], "blobs/a/b is in it twice"),
        (["reelmap-backup.json", "blobs/a/b", "blobs/a"], "blobs/a is in it twice"),
    ],
)
def test_members_that_lack_or_repeat_are_said(tmp_path, members, why):
    with new_archive(tmp_path / "backup.tar") as archive:
        for name in members:
            archive.add_bytes(name, json.dumps(MANIFEST).encode())
    done = CliRunner().invoke(
        commands, ["restore", str(tmp_path / "backup.tar"), "--folder", str(tmp_path / "restored")]
    )
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert re.search(f"is not a whole backup of Reelmap: {why}", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


@pytest.fixture
def folder_with_a_blank() -> Iterator[Path]:
    """A short one, because the path of a socket has to be."""
    with tempfile.TemporaryDirectory(prefix="a place ") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_folder_for_sockets_may_have_a_blank_in_its_name(tmp_path, monkeypatch, folder_with_a_blank):
    monkeypatch.setattr(tempfile, "tempdir", str(folder_with_a_blank))
    with open_installation(tmp_path / "reelmap", make=True) as installation:
        migrate(installation.database_url)
        assert "place" in installation.database_url
    local.backup(tmp_path / "reelmap", tmp_path / "backup.tar")
    local.restore(tmp_path / "backup.tar", tmp_path / "restored")
    assert rows_of(tmp_path / "restored")["alembic_version"]


@pytest.mark.parametrize("name", ["blobs/../../evil", "blobs/a b", "blobs//etc/passwd", "/etc/passwd", "redis/x"])
def test_a_file_that_would_write_elsewhere_is_refused(tmp_path, name):
    manifest = {"format": 1, "reelmap": "0.1", "postgres": 18, "schema": "0001", "created_at": ""}
    with new_archive(tmp_path / "backup.tar") as archive:
        archive.add_bytes("reelmap-backup.json", json.dumps(manifest).encode())
        archive.add_bytes(name, b"x")
    with pytest.raises(PermanentError, match="is not a backup of Reelmap: it holds"):
        local.restore(tmp_path / "backup.tar", tmp_path / "restored")
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


def test_a_folder_without_a_reelmap_is_said(tmp_path):
    with pytest.raises(PermanentError, match="There is no Reelmap in"):
        local.backup(tmp_path, tmp_path / "backup.tar")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_that_was_killed_is_seen_and_taken_over_by_the_next(running, folder, tmp_path):
    file = tmp_path / "backup.tar"
    left = tmp_path / "backup.tar.unfinished"
    left.mkdir()
    (left / "archive.tar").write_bytes(bytes(1000))
    (left / "lock").write_bytes(b"")
    local.backup(folder, file)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("backup")) == ["backup.tar"]
    with FolderLock(make(left), "a backup"), pytest.raises(PermanentError, match="is in use by a backup"):
        file.unlink()
        local.backup(folder, file)


def make(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("moved_up", [(), ("blobs",)])
def test_a_restore_that_was_interrupted_is_named_and_goes_on(moved_up, running, folder, tmp_path):
    file, half = tmp_path / "backup.tar", tmp_path / "half"
    local.backup(folder, file)
    for part in (".restoring/postgres/data", *moved_up):
        (half / part).mkdir(parents=True)
    with pytest.raises(PermanentError, match=r"A restore into .* was interrupted"), open_installation(half):
        pass
    with pytest.raises(PermanentError, match=r"A restore into .* was interrupted"), open_installation(half, make=True):
        pass
    with FolderLock(half / ".restoring", "a restore"):
        with pytest.raises(PermanentError, match="in use by a restore"), open_installation(half):
            pass
        with pytest.raises(PermanentError, match="in use by a restore"):
            local.restore(file, half)
    before = all_rows(running.database), all_blobs(folder)
    local.restore(file, half)
    assert (rows_of(half), all_blobs(half)) == before
    assert not (half / ".restoring").exists()


@pytest.mark.parametrize("behind", [b"x", bytes(100_000) + b"x"])
def test_what_is_added_behind_a_backup_is_refused(behind, running, folder, tmp_path):
    file, elsewhere = tmp_path / "backup.tar", tmp_path / "elsewhere"
    local.backup(folder, file)
    with file.open("ab") as end:
        end.write(behind)
    with pytest.raises(PermanentError, match="something was added behind its end"):
        local.restore(file, elsewhere)
    assert not elsewhere.exists()
