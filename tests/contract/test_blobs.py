"""What every blob store promises."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shared.blobs import BlobMissing, BlobStore, FolderBlobs
from shared.errors import TransientError


@pytest.fixture(params=["folder"])
def blobs(request, tmp_path: Path) -> BlobStore:
    return {"folder": lambda: FolderBlobs(tmp_path / "blobs")}[request.param]()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"\xff\xd8 picture")
    return path


def test_what_was_put_can_be_read(blobs, picture):
    blobs.put("pictures/a/0001.jpg", picture)
    assert blobs.read("pictures/a/0001.jpg") == picture.read_bytes()
    with blobs.open_file("pictures/a/0001.jpg") as path:
        assert path.read_bytes() == picture.read_bytes()
    assert picture.exists(), "the source stays"


def test_a_missing_blob_is_named(blobs):
    with pytest.raises(BlobMissing, match=r"pictures/none\.jpg"):
        blobs.read("pictures/none.jpg")
    with pytest.raises(BlobMissing), blobs.open_file("pictures/none.jpg"):
        pass


def test_deleting_twice_is_no_error(blobs, picture):
    blobs.put("pictures/a/1.jpg", picture)
    blobs.delete("pictures/a/1.jpg")
    blobs.delete("pictures/a/1.jpg")
    with pytest.raises(BlobMissing):
        blobs.read("pictures/a/1.jpg")


def test_names_come_with_the_time_they_were_written(blobs, picture):
    blobs.put("pictures/a/1.jpg", picture)
    blobs.put("uploads/b", picture)
    [entry] = blobs.entries("pictures/")
    assert entry.name == "pictures/a/1.jpg" and abs(entry.written_at - time.time()) < 60
    assert entry.size_bytes == picture.stat().st_size


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "", "a//b", "a/./b", "a b", "a\x00b"])
def test_a_name_cannot_lead_out_of_the_store(blobs, picture, name):
    with pytest.raises(ValueError, match="is not a blob name"):
        blobs.put(name, picture)
    with pytest.raises(ValueError, match="is not a blob name"):
        blobs.read(name)


def test_a_store_that_cannot_write_says_so_as_a_transient_error(picture, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    with pytest.raises(TransientError, match="could not take"):
        FolderBlobs(in_the_way).put("pictures/1.jpg", picture)
