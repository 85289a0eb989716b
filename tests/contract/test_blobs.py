"""What every blob store promises."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

import pytest

from shared.blob_stores import open_blobs
from shared.blobs import BlobMissing, BlobStore
from shared.errors import TransientError
from shared.folder_blobs import FolderBlobs
from shared.settings import SettingError, Settings


@pytest.fixture(params=["folder", "bucket", "bucket and prefix"])
def blobs(request, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return open_blobs(Settings(blobs_folder=tmp_path / "blobs"))
    object_store = request.getfixturevalue("object_store")
    return open_blobs(Settings(**object_store.new_bucket("reelmap/one/" if "prefix" in request.param else "")))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"\xff\xd8 picture")
    return path


def test_what_was_put_can_be_read(blobs, picture, tmp_path):
    blobs.put("pictures/a/0001.jpg", picture)
    assert blobs.read("pictures/a/0001.jpg") == picture.read_bytes()
    with blobs.open_file("pictures/a/0001.jpg", tmp_path) as path:
        assert path.read_bytes() == picture.read_bytes()
    assert picture.exists(), "the source stays"
    assert list(tmp_path.glob("tmp*")) == [], "a copy does not"


def test_an_empty_blob_is_one(blobs, tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    blobs.put("uploads/empty", empty)
    assert blobs.read("uploads/empty") == b""


def test_a_large_file_keeps_every_byte(blobs, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(b"".join(i.to_bytes(4, "big") * 1024 for i in range(8 * 1024 + 1)))
    blobs.put("uploads/large", large)
    with blobs.open_file("uploads/large", tmp_path) as path:
        assert path.read_bytes() == large.read_bytes()


def test_several_are_stored_at_once_and_read_in_the_order_that_is_asked_for(blobs, tmp_path):
    sources = {}
    for i in range(40):
        sources[f"pictures/a/{i}.jpg"] = tmp_path / f"{i}"
        sources[f"pictures/a/{i}.jpg"].write_text(f"picture {i}")
    blobs.put_all(sources)
    backwards = [f"pictures/a/{i}.jpg" for i in reversed(range(40))]
    assert list(blobs.read_all(iter(backwards))) == [f"picture {i}".encode() for i in reversed(range(40))]


def test_reading_on_asks_for_no_more_than_a_few_ahead(blobs, picture):
    asked = []

    def names():
        for i in range(1000):
            asked.append(i)
            yield "pictures/a/1.jpg"

    blobs.put("pictures/a/1.jpg", picture)
    contents = blobs.read_all(names())
    assert list(islice(contents, 3)) == 3 * [picture.read_bytes()]
    assert len(asked) < 64


def test_a_missing_blob_is_named(blobs, picture, tmp_path):
    with pytest.raises(BlobMissing, match=r"pictures/none\.jpg"):
        blobs.read("pictures/none.jpg")
    with pytest.raises(BlobMissing), blobs.open_file("pictures/none.jpg", tmp_path):
        pass
    blobs.put("pictures/there.jpg", picture)
    contents = blobs.read_all(["pictures/there.jpg", "pictures/none.jpg", "pictures/there.jpg"])
    assert next(contents) == picture.read_bytes()
    with pytest.raises(BlobMissing, match=r"pictures/none\.jpg"):
        next(contents)


def test_deleting_twice_is_no_error(blobs, picture):
    blobs.put("pictures/a/1.jpg", picture)
    blobs.put("pictures/a/2.jpg", picture)
    blobs.delete(["pictures/a/1.jpg", "pictures/a/none.jpg"])
    blobs.delete(["pictures/a/1.jpg"])
    blobs.delete([])
    with pytest.raises(BlobMissing):
        blobs.read("pictures/a/1.jpg")
    assert blobs.read("pictures/a/2.jpg")


def test_names_come_with_the_time_they_were_written(blobs, picture):
    blobs.put("pictures/a/1.jpg", picture)
    blobs.put("uploads/b", picture)
    [(name, written_at, size_bytes)] = blobs.entries("pictures/")
    assert size_bytes == picture.stat().st_size
    assert name == "pictures/a/1.jpg" and abs(written_at - time.time()) < 60
    assert [entry.name for entry in blobs.entries("pictures/a/1")] == ["pictures/a/1.jpg"]
    assert list(blobs.entries("pictures/b/")) == []
    assert [entry.name for entry in blobs.entries("")] == ["pictures/a/1.jpg", "uploads/b"]


def test_blobs_are_listed_in_the_order_of_their_names(blobs, picture):
    names = [
        "pictures/a-b/1",
        "pictures/a.b",
        "pictures/a/0001.jpg",
        "pictures/a/0001_small.jpg",
        "pictures/ab",
        "up/b",
    ]
    blobs.put_all(dict.fromkeys(reversed(names), picture))
    assert [entry.name for entry in blobs.entries("")] == names


def test_nothing_is_unfinished_after_a_put(blobs, picture):
    blobs.put("pictures/a/1.jpg", picture)
    assert list(blobs.unfinished()) == []


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "", "a//b", "a/./b", "a b", "a\x00b"])
def test_a_name_cannot_lead_out_of_the_store(blobs, picture, tmp_path, name):
    for use in (
        lambda: blobs.put(name, picture),
        lambda: blobs.put_all({name: picture}),
        lambda: blobs.read(name),
        lambda: list(blobs.read_all([name])),
        lambda: blobs.open_file(name, tmp_path).__enter__(),
        lambda: blobs.delete([name]),
    ):
        with pytest.raises(ValueError, match="is not a blob name"):
            use()


def test_a_file_that_cannot_be_stored_is_a_transient_error(blobs, tmp_path):
    with pytest.raises(TransientError, match=r"could not take pictures/1\.jpg: No such file"):
        blobs.put("pictures/1.jpg", tmp_path / "none.jpg")


def test_a_folder_that_cannot_be_written_to_says_so_as_a_transient_error(picture, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    with pytest.raises(TransientError, match="could not take"):
        FolderBlobs(in_the_way).put("pictures/1.jpg", picture)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({}, "both unset"), ({"blobs_folder": Path("/blobs"), "blobs_bucket": "pictures"}, "both set")],
)
def test_a_store_is_a_folder_or_a_bucket(settings, says):
    with pytest.raises(SettingError, match=f"REELMAP_BLOBS_FOLDER and REELMAP_BLOBS_BUCKET are {says}"):
        open_blobs(Settings(**settings))
