"""The file that a backup is: whole, private, and known to be so."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile

import pytest

from services.local.archive import new_archive, read_archive
from shared.errors import PermanentError

LARGE = os.urandom(300_000)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    (folder / "large").write_bytes(LARGE)
    with new_archive(folder / "a.tar") as writer:
        writer.add_bytes("first.json", b"{}")
        writer.add_file("deep/large", folder / "large")
    return folder / "a.tar"


@pytest.fixture
def archive(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copy2(written, tmp_path / "a.tar")


def contents(file):
    return {name: content.read() for name, content in read_archive(file)}


def test_what_was_put_in_comes_out(archive):
    assert contents(archive) == {"first.json": b"{}", "deep/large": LARGE}


def test_only_we_can_read_it(archive):
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600


def test_other_tools_can_check_it(archive, tmp_path):
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    subprocess.run(["sha256sum", "--check", "--status", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_a_member_that_nobody_reads_is_checked_too(archive):
    assert [name for name, _ in read_archive(archive)] == ["first.json", "deep/large"]
    flip(archive, 200_000)
    with pytest.raises(PermanentError, match="deep/large is not what was written"):
        list(read_archive(archive))


@pytest.mark.parametrize("at", [20, 512, 1024 + 20, 1024 + 150, 100_000])
def test_one_changed_byte_is_noticed(archive, at):
    flip(archive, at)
    with pytest.raises(PermanentError, match=r"a\.tar is not a whole backup"):
        contents(archive)


def test_a_changed_sum_is_noticed(archive):
    flip(archive, archive.read_bytes().rindex(b"deep/large") - 10)
    with pytest.raises(PermanentError, match="deep/large is not what was written"):
        contents(archive)


@pytest.mark.parametrize("size_bytes", [0, 100, 1024, 200_000, 301_568, 302_112])
def test_a_part_of_it_is_noticed(archive, size_bytes):
    os.truncate(archive, size_bytes)
    with pytest.raises(PermanentError, match=r"a\.tar is not a whole backup"):
        contents(archive)


def test_a_tar_of_something_else_is_noticed(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(tmp_path / "link", "link")
    with pytest.raises(PermanentError, match="link is no plain file"):
        contents(tmp_path / "b.tar")


def test_one_that_was_not_finished_leaves_nothing(tmp_path):
    def fail():
        with new_archive(tmp_path / "a.tar") as writer:
            writer.add_bytes("first", b"1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
