"""What is said of the store of pictures: on a folder and on a bucket, each thing goes wrong and is seen."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from services.local.checks import store
from services.local.checks.check import Subject, Verdict
from shared import ownership
from shared.blob_stores import open_blobs
from shared.blobs import BlobStore
from shared.folder_blobs import FolderBlobs
from shared.gc import PROBES
from shared.settings import Settings
from shared.tables import DEFAULT_PROJECT_ID

pytestmark = pytest.mark.integration


@pytest.fixture(params=["folder", "bucket"])
def settings(request, tmp_path: Path) -> Settings:
    if request.param == "folder":
        (tmp_path / "blobs").mkdir()
        return Settings(own_models={}, blobs_folder=tmp_path / "blobs")
    return Settings(own_models={}, **request.getfixturevalue("object_store").new_bucket("reelmap/"))


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return open_blobs(settings)


@pytest.fixture
def subject(settings: Settings, database) -> Subject:
    return Subject(settings, None, database, None, {})


@pytest.fixture
def named(rows, blobs, tmp_path) -> list[str]:
    """Blobs that rows name: of two videos, an upload and a query picture."""
    rows.job(sources=2)
    for claim in rows.claim(*rows.task_ids("keyframes")):
        rows.cut_up(claim, key_frames_=12)
    rows.do(
        """INSERT INTO uploads (project_id, file_name, size_bytes, sha256, blob)
        VALUES (:p, 'f', 7, 's', 'uploads/a')""",
        p=DEFAULT_PROJECT_ID,
    )
    rows.do("INSERT INTO queries (project_id, model, blob) VALUES (:p, 'm', 'queries/a')", p=DEFAULT_PROJECT_ID)
    names = [name for row in rows.all("SELECT blob, small_blob FROM key_frames") for name in row]
    names += ["uploads/a", "queries/a"]
    source = tmp_path / "source"
    source.write_bytes(b"1234567")
    blobs.put_all(dict.fromkeys(names, source))
    return names


def test_a_store_that_does_what_it_should_is_good_and_keeps_no_probe(subject, blobs):
    assert store.usable(subject) == (Verdict.GOOD, "It takes, gives back and removes what it should.")
    assert list(blobs.entries("")) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"blobs_bucket": "nowhere"}, "could not take probes/"),
        ({"s3_endpoint": "http://127.0.0.1:9"}, "it cannot be reached"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_told_with_its_reason(object_store, changes, says):
    settings = replace(Settings(own_models={}, **object_store.new_bucket()), **changes)
    verdict, said = store.usable(Subject(settings, None, None, None, {}))
    assert verdict is Verdict.BAD
    assert said.startswith("The picture store, bucket ") and says in said and "must be allowed to put" in said


def test_a_folder_that_is_not_there_is_told_by_another_check(database, tmp_path):
    subject = Subject(Settings(own_models={}, blobs_folder=tmp_path / "none"), None, database, None, {})
    for look in (store.usable, store.whose, store.every_blob, store.orphans):
        assert look(subject)[0] is Verdict.UNKNOWN
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("skew_s", "says"), [(90, "90 s ahead of the store's"), (-300, "300 s behind the store's")])
def test_clocks_that_make_signed_addresses_useless(skew_s, says):
    verdict, said = store.judge_skew(skew_s)
    assert verdict is Verdict.BAD and says in said
    assert store.judge_skew(20)[0] is Verdict.GOOD


@pytest.mark.parametrize("page", [store.PAGE, 5])
def test_every_blob_is_looked_for(subject, named, monkeypatch, page):
    monkeypatch.setattr(store, "PAGE", page)
    assert len(named) == 2 * 2 * 12 + 2
    assert store.every_blob(subject) == (Verdict.GOOD, "All of the 50 that rows name are there.")


def test_what_is_missing_or_of_another_size_is_counted(subject, named, blobs, tmp_path):
    blobs.delete([named[0], named[17], "queries/a"])
    verdict, says = store.every_blob(subject)
    assert verdict is Verdict.BAD
    assert says.startswith("Of 50 that rows name, 3 are missing, such as pictures/")
    (tmp_path / "shorter").write_bytes(b"123")
    blobs.delete(["uploads/a"])
    blobs.put("uploads/a", tmp_path / "shorter")
    assert "3 are missing and 1 are longer or shorter than they were" in store.every_blob(subject)[1]


def test_an_empty_store_is_not_counted_to_the_end(subject, named, blobs, monkeypatch):
    monkeypatch.setattr(store, "ENOUGH", 10)
    blobs.delete(named)
    assert store.every_blob(subject)[1].startswith("Of the first 10 that rows name, 10 are missing")


def test_a_job_that_is_deleted_while_we_look_is_no_loss(subject, named, rows, blobs, monkeypatch):
    is_referred = store.is_referred

    def deleted_meanwhile(database, name: str) -> bool:
        rows.do("DELETE FROM jobs")
        rows.do("DELETE FROM extractions")
        return is_referred(database, name)

    blobs.delete(name for name in named if name.startswith("pictures/"))
    monkeypatch.setattr(store, "is_referred", deleted_meanwhile)
    assert store.every_blob(subject)[0] is Verdict.GOOD


def test_a_store_that_may_belong_to_another_database_is_said(subject, named, rows, database, blobs):
    assert store.whose(subject) == (Verdict.GOOD, "It belongs to this database.")
    assert ownership.MARK not in [entry.name for entry in blobs.entries("")], "only looked at"
    rows.do("DELETE FROM jobs")
    rows.do("DELETE FROM extractions")
    for look in (store.whose, store.orphans):
        verdict, says = look(subject)
        assert verdict is Verdict.BAD
        assert says.startswith("Rows of this database name only 2 of 50 pictures and uploads in the store.")
    ownership.mark(database, blobs)
    assert store.whose(subject)[0] is store.orphans(subject)[0] is Verdict.GOOD
    rows.do("UPDATE installation SET id = gen_random_uuid()")
    assert store.whose(subject)[1].startswith("The store of pictures belongs to another database, ")


def test_what_no_row_names_is_counted(database, tmp_path):
    subject = Subject(Settings(own_models={}, blobs_folder=tmp_path), None, database, None, {})
    assert store.orphans(subject) == (Verdict.GOOD, "Nothing lies there that no row names.")
    ownership.mark(database, FolderBlobs(tmp_path))
    for name in ("uploads/old", f"{PROBES}old"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x" * 1_500_000)
        os.utime(tmp_path / name, (time.time() - 2 * 24 * 3600,) * 2)
    verdict, says = store.orphans(subject)
    assert verdict is Verdict.GOOD
    assert says.startswith("Nothing uses 1 uploads in the store (1.5 MB), 1 probes in the store (1.5 MB): `reelmap gc`")
