"""What nothing refers to goes, and nothing else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from services.api.commands.deletion import delete_job
from services.api.commands.jobs import submit_job
from services.api.problems import Invalid
from services.api.schemas.requests import JobRequest
from services.keyframes import store as keyframes_store
from shared import ownership
from shared.blob_stores import open_blobs
from shared.blobs import BlobEntry, BlobStore, UnfinishedPut
from shared.errors import TransientError
from shared.folder_blobs import FolderBlobs
from shared.gc import BATCH, KEPT_S, Garbage, collect, least_age_s
from shared.ownership import NotOurs
from shared.s3 import S3
from shared.settings import Settings
from shared.tables import DEFAULT_PROJECT_ID
from shared.work_folders import gc, work_folder

DAY_S = 24 * 3600


@pytest.fixture
def blobs(database, tmp_path: Path) -> FolderBlobs:
    blobs = FolderBlobs(tmp_path / "blobs")
    ownership.mark(database, blobs)
    return blobs


def put(blobs: FolderBlobs, tmp_path: Path, *names: str, age_s: float = 2 * DAY_S) -> None:
    for name in names:
        source = tmp_path / "source"
        source.write_bytes(b"x")
        blobs.put(name, source)
        os.utime(blobs.folder / name, (time.time() - age_s,) * 2)


def names(blobs: FolderBlobs) -> set[str]:
    return {entry.name for entry in blobs.entries("") if entry.name != ownership.MARK}


def collected(database, blobs, *, delete: bool = True, older_than_s: float = DAY_S, **others) -> dict[str, Garbage]:
    return {heap.kind: heap for heap in collect(database, blobs, older_than_s=older_than_s, delete=delete, **others)}


def counts(heaps: dict[str, Garbage]) -> dict[str, int]:
    return {kind: heap.count for kind, heap in heaps.items() if heap.count}


def test_old_blobs_that_no_row_names_go_and_the_others_stay(rows, database, blobs, tmp_path):
    rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")))
    pictures = [row[0] for row in rows.all("SELECT unnest(ARRAY[blob, small_blob]) FROM key_frames")]
    rows.do(
        """INSERT INTO uploads (project_id, file_name, size_bytes, sha256, blob)
        VALUES (:p, 'f', 1, 's', 'uploads/used')""",
        p=DEFAULT_PROJECT_ID,
    )
    rows.do("INSERT INTO queries (project_id, model, blob) VALUES (:p, 'm', 'queries/used')", p=DEFAULT_PROJECT_ID)
    used = {*pictures, "uploads/used", "queries/used"}
    unused = {
        "pictures/00000000-0000-0000-0000-00000000abcd/0000010.jpg",
        "pictures/not-an-id/x.jpg",
        "pictures/stray",
        "uploads/left",
        "queries/left",
    }
    young = {"pictures/00000000-0000-0000-0000-00000000abce/0000010.jpg", "uploads/young", "queries/young"}
    put(blobs, tmp_path, *used, *unused)
    put(blobs, tmp_path, *young, age_s=DAY_S / 2)
    found = {"pictures in the store": 3, "uploads in the store": 1, "query pictures in the store": 1}
    assert counts(collected(database, blobs, delete=False)) == found
    assert names(blobs) == used | unused | young
    heaps = collected(database, blobs)
    assert counts(heaps) == found
    assert heaps["pictures in the store"].size_bytes == 3
    assert heaps["uploads in the store"].oldest_at == pytest.approx(time.time() - 2 * DAY_S, abs=60)
    assert names(blobs) == used | young
    assert counts(collected(database, blobs)) == {}


def test_many_orphans_go_in_several_batches(rows, database, blobs, tmp_path):
    put(blobs, tmp_path, *[f"queries/{n}" for n in range(BATCH + 1)])
    assert counts(collected(database, blobs)) == {"query pictures in the store": BATCH + 1}
    assert names(blobs) == set()


def test_query_pictures_and_idempotency_keys_are_kept_for_a_day(rows, database, blobs):
    for age in ("23 hours", "25 hours"):
        rows.do(
            """INSERT INTO queries (project_id, model, blob, created_at)
            VALUES (:p, 'm', :age, now() - CAST(:age AS interval))""",
            p=DEFAULT_PROJECT_ID,
            age=age,
        )
        rows.do(
            """INSERT INTO idempotency_keys (project_id, key, fingerprint, status, body, created_at)
            VALUES (:p, :age, 'f', 202, '{}', now() - CAST(:age AS interval))""",
            p=DEFAULT_PROJECT_ID,
            age=age,
        )
    found = {"query pictures": 1, "idempotency keys": 1}
    assert counts(collected(database, blobs, delete=False, older_than_s=60)) == found
    assert rows.one("SELECT count(*) FROM queries") == 2
    assert counts(collected(database, blobs, older_than_s=60)) == found
    assert rows.all("SELECT blob FROM queries") == [("23 hours",)]
    assert rows.all("SELECT key FROM idempotency_keys") == [("23 hours",)]


def add_upload(rows, blob: str, *, age: str) -> str:
    return rows.one(
        """INSERT INTO uploads (project_id, file_name, size_bytes, sha256, blob, created_at)
        VALUES (:p, 'f', 1, 's', :blob, now() - CAST(:age AS interval)) RETURNING id""",
        p=DEFAULT_PROJECT_ID,
        blob=blob,
        age=age,
    )


def test_uploads_of_no_job_are_kept_for_a_day_and_go_with_their_bytes(rows, database, blobs, tmp_path):
    add_upload(rows, "uploads/young", age="23 hours")
    add_upload(rows, "uploads/old", age="25 hours")
    rows.job()
    rows.do("UPDATE sources SET url = 'upload:' || :id", id=add_upload(rows, "uploads/submitted", age="25 hours"))
    put(blobs, tmp_path, "uploads/young", "uploads/old", "uploads/submitted")
    # A dry run counts the bytes of the rows that it would remove.
    found = {"uploads of no job": 1, "uploads in the store": 1}
    assert counts(collected(database, blobs, delete=False)) == found
    assert rows.one("SELECT count(*) FROM uploads") == 3
    assert counts(collected(database, blobs)) == found
    assert names(blobs) == {"uploads/young", "uploads/submitted"}


def test_an_upload_that_is_being_submitted_stays(rows, database, blobs, tmp_path):
    upload = add_upload(rows, "uploads/old", age="25 hours")
    put(blobs, tmp_path, "uploads/old")
    with database.transaction() as submitting:
        submitting.execute(text("SELECT FROM uploads WHERE id = :id FOR SHARE"), {"id": upload})
        assert counts(collected(database, blobs)) == {}
    assert rows.all("SELECT blob FROM uploads") == [("uploads/old",)]
    assert names(blobs) == {"uploads/old"}


class Interrupted:
    """A store in which something happens after the names were listed and before any is deleted."""

    def __init__(self, blobs: FolderBlobs, happens) -> None:
        self._blobs, self._happens = blobs, happens

    def entries(self, prefix: str) -> list[BlobEntry]:
        entries = list(self._blobs.entries(prefix))
        if entries:
            self._happens()
        return entries

    def __getattr__(self, name: str):
        return getattr(self._blobs, name)


def test_a_row_that_arrives_between_listing_and_deleting_keeps_its_blob(rows, database, blobs, tmp_path):
    put(blobs, tmp_path, "uploads/late", "uploads/left")
    store = Interrupted(blobs, lambda: add_upload(rows, "uploads/late", age="0 hours"))
    assert counts(collected(database, store)) == {"uploads in the store": 1}
    assert names(blobs) == {"uploads/late"}


def test_a_job_that_is_deleted_between_listing_and_deleting_is_no_error(rows, database, blobs, tmp_path):
    job = rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")))
    pictures = [name for row in rows.all("SELECT blob, small_blob FROM key_frames") for name in row]
    put(blobs, tmp_path, *pictures)
    store = Interrupted(blobs, lambda: delete_job(database, blobs, DEFAULT_PROJECT_ID, job))
    collected(database, store)
    assert names(blobs) == set()


def test_collecting_while_videos_are_cut_up_and_jobs_deleted(make_rows, make_source_result, database, blobs, tmp_path):
    """Pictures wait for their rows as they do in a worker; once they have them, age protects them no more."""
    kept: list[str] = []

    def work(number: int) -> None:
        own = make_rows(database)
        scratch = tmp_path / str(number)
        scratch.mkdir()
        for turn in range(6):
            job = own.job()
            [claim] = own.claim(*own.task_ids("keyframes", job))
            result = make_source_result(2, f"sha-{number}-{turn}")
            pictures = [
                f"pictures/{result.extraction_id}/{n:07d}{small}.jpg" for n in (0, 10) for small in ("", "_small")
            ]
            put(blobs, scratch, *pictures, age_s=0)
            assert own.save(claim, keyframes_store, result)
            put(blobs, scratch, *pictures)  # the same bytes, two days old
            if turn % 2:
                delete_job(database, blobs, DEFAULT_PROJECT_ID, job)
            else:
                kept.extend(pictures)

    with collecting(database, blobs), ThreadPoolExecutor(3) as workers:
        list(workers.map(work, range(3)))
    collected(database, blobs)
    assert names(blobs) == set(kept) and len(kept) == 3 * 3 * 4


def test_collecting_while_old_uploads_are_submitted(rows, database, blobs, tmp_path):
    """Each is either submitted and stays whole, or gone, and then submitting it is refused."""
    ids = [add_upload(rows, f"uploads/{n}", age="25 hours") for n in range(30)]
    put(blobs, tmp_path, *[f"uploads/{n}" for n in range(30)])
    submitted: set[str] = set()

    def submit(number: int) -> None:
        request = JobRequest(videos=[f"upload:{ids[number]}"], models=["hog_color"])
        with suppress(Invalid), database.transaction() as connection:
            submit_job(connection, DEFAULT_PROJECT_ID, Settings(own_models={}), request)
            submitted.add(f"uploads/{number}")

    with ThreadPoolExecutor(3) as people:
        list(people.map(submit, range(3)))
        with collecting(database, blobs):
            list(people.map(submit, range(3, 30)))
    collected(database, blobs)
    assert {blob for (blob,) in rows.all("SELECT blob FROM uploads")} == submitted
    assert names(blobs) == submitted and len(submitted) >= 3


@contextmanager
def collecting(database, blobs) -> Iterator[None]:
    """Collect again and again, one thread after the other's heels, until the block ends."""
    ended = threading.Event()

    def clean() -> None:
        while not ended.is_set():
            collected(database, blobs)

    with ThreadPoolExecutor(2) as cleaners:
        running = [cleaners.submit(clean) for _ in range(2)]
        try:
            yield
        finally:
            ended.set()
    for each in running:
        each.result()


def test_what_a_killed_process_left_in_its_work_folder_goes(database, blobs, tmp_path):
    left = tmp_path / "work" / "work-left"
    left.mkdir(parents=True)
    (left / ".lock").touch()
    (left / "video").write_bytes(b"12345")
    with work_folder(tmp_path / "work") as used:
        heap = collected(database, blobs, work_folders=[tmp_path / "work"], delete=False)[
            "work folders of killed processes"
        ]
        assert (heap.count, heap.size_bytes) == (1, 5) and left.exists()
        collected(database, blobs, work_folders=[tmp_path / "work"])
        assert used.exists() and not left.exists()


def test_a_worker_may_remove_what_was_left_while_it_is_counted(database, blobs, tmp_path):
    parent = tmp_path / "work"
    for number in range(2000):
        left = parent / f"work-{number}"
        left.mkdir(parents=True)
        (left / ".lock").touch()
        (left / "video").write_bytes(b"12345")
    with ThreadPoolExecutor(1) as worker:
        emptied = worker.submit(gc, parent)
        while not emptied.done():
            collected(database, blobs, work_folders=[parent], delete=False)
        emptied.result()
    gc(parent)  # a folder whose lock was just being tried was left
    assert list(parent.iterdir()) == []


def test_a_blob_may_wait_for_its_row_as_long_as_a_worker_may_take():
    assert least_age_s(Settings(own_models={}, keyframes_deadline_s=7200)) > 7200 + 60
    assert least_age_s(Settings(own_models={})) < KEPT_S


def test_a_bucket_is_rid_of_orphans_and_of_uploads_that_never_ended(rows, database, object_store, tmp_path):
    settings = Settings(own_models={}, **object_store.new_bucket("reelmap/"))
    bucket, store = settings.blobs_place.bucket, open_blobs(settings)
    client = S3(settings).client
    begun = {
        key: client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        for key in ("reelmap/uploads/big", "other/uploads/big")
    }
    client.upload_part(
        Bucket=bucket, Key="reelmap/uploads/big", UploadId=begun["reelmap/uploads/big"], PartNumber=1, Body=b"12345"
    )
    client.put_object(Bucket=bucket, Key="other/uploads/left", Body=b"x")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    store.put_all({"uploads/left": source, "uploads/used": source})
    add_upload(rows, "uploads/used", age="0 hours")

    # moto dates every unfinished upload from 2010.
    assert counts(collected(database, store, delete=False)) == {"unfinished uploads to the store": 1}, "blobs are young"
    # A bucket dates what is in it by itself; so time goes on in place of the objects' ageing.
    long_after_s = -60
    heaps = collected(database, store, delete=False, older_than_s=long_after_s)
    found = {"uploads in the store": 1, "unfinished uploads to the store": 1}
    assert counts(heaps) == found
    assert heaps["unfinished uploads to the store"].size_bytes == 5
    assert counts(collected(database, store, older_than_s=long_after_s)) == found
    assert names(store) == {"uploads/used"}
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["other/uploads/big"], "what is beside our prefix is not ours"
    assert "Contents" in client.list_objects_v2(Bucket=bucket, Prefix="other/")
    client.close()


def test_an_upload_that_may_still_end_is_left_alone(database, blobs):
    """Nor is the store asked how much of it came, a request for each."""
    measured, abandoned = [], []

    def received_bytes(name: str) -> int:
        measured.append(name)
        return 1

    puts = [
        UnfinishedPut(name, time.time() - age_s, partial(received_bytes, name), partial(abandoned.append, name))
        for name, age_s in (("uploads/old", 2 * DAY_S), ("uploads/young", DAY_S / 2))
    ]
    store = Interrupted(blobs, lambda: None)
    store.unfinished = lambda: iter(puts)
    assert counts(collected(database, store)) == {"unfinished uploads to the store": 1}
    assert measured == abandoned == ["uploads/old"]


def test_what_cannot_be_removed_keeps_nothing_else(database, blobs, tmp_path):
    """A folder stands where a blob was listed, so that one name of the first place is refused."""
    left = tmp_path / "work" / "work-left"
    left.mkdir(parents=True)
    (left / ".lock").touch()
    put(blobs, tmp_path, "pictures/stray", "uploads/left", "queries/left")

    def refuse() -> None:
        if (blobs.folder / "pictures/stray").is_file():
            (blobs.folder / "pictures/stray").unlink()
            (blobs.folder / "pictures/stray").mkdir()

    with pytest.raises(TransientError, match=r"could not remove .*pictures/stray"):
        collected(database, Interrupted(blobs, refuse), work_folders=[tmp_path / "work"])
    assert names(blobs) == set() and not left.exists()


@pytest.fixture(params=["folder", "bucket"])
def unmarked(request, tmp_path: Path) -> BlobStore:
    """A store that nobody has marked."""
    if request.param == "folder":
        return FolderBlobs(tmp_path / "unmarked")
    return open_blobs(Settings(own_models={}, **request.getfixturevalue("object_store").new_bucket("reelmap/")))


LONG_AFTER_S = -60  # a bucket dates what is in it by itself


def test_an_empty_store_is_taken_and_another_database_leaves_it_alone(rows, database, unmarked, tmp_path):
    collected(database, unmarked, delete=False)
    assert list(unmarked.entries("")) == [], "only looked for"
    collected(database, unmarked)
    assert [entry.name for entry in unmarked.entries("")] == [ownership.MARK]
    source = tmp_path / "source"
    source.write_bytes(b"x")
    unmarked.put("pictures/stray", source)
    ours = rows.one("SELECT id FROM installation")
    rows.do("UPDATE installation SET id = gen_random_uuid()")
    for delete in (False, True):
        with pytest.raises(NotOurs, match=f"belongs to another database, {ours}"):
            collected(database, unmarked, older_than_s=LONG_AFTER_S, delete=delete)
    assert names(unmarked) == {"pictures/stray"}
    assert counts(collected(database, unmarked, older_than_s=LONG_AFTER_S, adopt=True)) == {"pictures in the store": 1}
    collected(database, unmarked)


def test_a_store_without_a_mark_is_taken_when_rows_name_most_of_it(rows, database, unmarked, tmp_path):
    """One that rows name is not enough: a database that lost its rows names what came since."""
    source = tmp_path / "source"
    source.write_bytes(b"x")
    unmarked.put_all({f"uploads/{n}": source for n in range(3)})
    add_upload(rows, "uploads/0", age="0 hours")
    with pytest.raises(NotOurs, match="name only 1 of 3 pictures and uploads"):
        collected(database, unmarked, older_than_s=LONG_AFTER_S)
    assert names(unmarked) == {"uploads/0", "uploads/1", "uploads/2"}
    add_upload(rows, "uploads/1", age="0 hours")
    assert counts(collected(database, unmarked, older_than_s=LONG_AFTER_S)) == {"uploads in the store": 1}
    assert {entry.name for entry in unmarked.entries("")} == {"uploads/0", "uploads/1", ownership.MARK}
