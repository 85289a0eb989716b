"""The archive that others' programs open: whole, with every picture and its line."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import uuid
import zipfile

import pytest

from services.exports.formats import zip as zip_format
from services.exports.rows import COLUMNS, Row


def row(number: int, **changes) -> Row:
    values = {
        "key_frame_id": str(uuid.UUID(int=number)),
        "video_id": str(uuid.UUID(int=0)),
        "title": "A film",
        "source_url": "https://films.example/a.mp4",
        "time_s": number / 2,
        "frame_index": number,
        "width_px": 4,
        "height_px": 3,
        "picture": bytes([number]) * (1000 + number),
    }
    return Row(**{**values, **changes})


def archive_of(*rows: Row) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(zip_format.write(iter(rows)))))


def table_of(archive: zipfile.ZipFile) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(archive.read("key_frames.csv").decode("utf-8-sig"), newline="")))


def test_every_picture_is_under_the_name_that_its_line_says():
    rows = [row(number, cluster=number % 3 - 1, distance=number / 8) for number in range(1, 8)]
    archive = archive_of(*rows)
    assert archive.testzip() is None
    lines = table_of(archive)
    assert [line["key_frame_id"] for line in lines] == [each.key_frame_id for each in rows]
    assert [archive.read(line["file"]) for line in lines] == [each.picture for each in rows]
    assert {line["file"].split("/")[1] for line in lines} == {"noise", "cluster-0000", "cluster-0001"}
    assert (lines[0]["cluster"], lines[0]["distance"], lines[0]["time_s"]) == ("0", "0.125", "0.5")
    assert tuple(lines[0]) == COLUMNS
    assert len(archive.namelist()) == len(rows) + 1


def test_sizes_stand_before_the_pictures():
    """Programs that read an archive from its beginning know no other place; bit 3 would say that they come behind."""
    data = b"".join(zip_format.write(iter([row(1), row(2)])))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            header = data[entry.header_offset :][:30]
            assert entry.flag_bits & 0x08 == 0
            assert int.from_bytes(header[18:22], "little") == entry.compress_size > 0
            assert int.from_bytes(header[14:18], "little") == entry.CRC


@pytest.mark.skipif(shutil.which("unzip") is None, reason="there is no unzip here")
def test_a_program_that_is_not_ours_opens_it(tmp_path):
    path = tmp_path / "export.zip"
    path.write_bytes(b"".join(zip_format.write(row(number, title="../../日 film") for number in range(1, 5))))
    done = subprocess.run(["unzip", "-q", str(path), "-d", str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(each.stat().st_size for each in (tmp_path / "pictures").iterdir()) == [1001, 1002, 1003, 1004]


def test_more_pictures_than_the_first_zip_format_counts():
    rows = (row(number % 250, key_frame_id=str(uuid.UUID(int=number)), picture=b"p") for number in range(66_000))
    archive = archive_of(*rows)
    assert len(archive.namelist()) == 66_001
    assert archive.read(archive.namelist()[65_999]) == b"p"
