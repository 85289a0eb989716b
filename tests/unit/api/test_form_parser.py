"""Forms within one budget, whatever they are made of."""

from __future__ import annotations

import io
import time

import pytest

from services.api.form_files import FormFiles
from services.api.form_parser import MAX_HEADERS_BYTES, MAX_PARTS, FormParser
from services.api.problems import Malformed, TooLarge

TEXT_BYTES = 10_000


@pytest.fixture
def files(tmp_path):
    files = FormFiles(tmp_path)
    yield files
    files.close()


@pytest.fixture
def read(files):
    """Reads a body. Returns the fields and the files of it, in order."""

    def read(body: bytes, mimetype: str = "multipart/form-data", boundary: str = "x"):
        parser = FormParser(lambda *_: files.add(), max_form_memory_size=TEXT_BYTES)
        _, fields, sent = parser.parse(io.BytesIO(body), mimetype, len(body), {"boundary": boundary})
        return (
            list(fields.items(multi=True)),
            [(name, file.filename, file.stream.read()) for name, file in sent.items(multi=True)],
        )

    return read


def part(disposition: str, content: bytes = b"1", more: str = "") -> bytes:
    return f"--x\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


def test_fields_and_files_come_out_as_they_were_sent(read):
    content = bytes(range(256)) * 1000
    fields, files = read(
        body(
            part('form-data; name="a"', "grün".encode()),
            part('form-data; name="f"; filename="one.mp4"', content),
            part('form-data; name="a"', b""),
            part('form-data; name="f"; filename="two.mp4"', b"2", "Content-Type: video/mp4\r\n"),
            part("form-data; name=\"f\"; filename*=UTF-8''gr%C3%BCn.mp4", b"--x-\r\n--y"),
        )
    )
    assert fields == [("a", "grün"), ("a", "")]
    assert files == [("f", "one.mp4", content), ("f", "two.mp4", b"2"), ("f", "grün.mp4", b"--x-\r\n--y")]
    assert read(b"a=1&a=+2&b=gr%C3%BCn&c", "application/x-www-form-urlencoded") == (
        [("a", "1"), ("a", " 2"), ("b", "grün"), ("c", "")],
        [],
    )


def test_all_texts_together_have_one_budget(read):
    half = b"t" * (TEXT_BYTES // 2)
    assert len(read(body(*[part('form-data; name="a"', half)] * 2))[0]) == 2
    with pytest.raises(TooLarge, match="texts of this form"):
        read(body(*[part('form-data; name="a"', half)] * 3))
    with pytest.raises(TooLarge, match="texts of this form"):
        read(b"a=" + half * 3, "application/x-www-form-urlencoded")


def test_a_form_has_at_most_a_thousand_parts(read):
    one = part('form-data; name="f"; filename="f"')
    assert len(read(body(*[one] * MAX_PARTS))[1]) == MAX_PARTS
    with pytest.raises(TooLarge, match="at most 1000 files and fields"):
        read(body(*[one] * (MAX_PARTS + 1)))
    with pytest.raises(TooLarge, match="at most 1000 fields"):
        read(b"a&" * MAX_PARTS + b"a", "application/x-www-form-urlencoded")


@pytest.mark.parametrize(
    "broken",
    [
        body(part("form-data")),
        body(part('form-data; filename="a"')),
        body(b"--x\r\nContent-Type: a/b\r\n\r\n1\r\n"),
        body(part('form-data; name="a"'))[:-8],
        part('form-data; name="f"; filename="a"', b"1" * 300_000),
        b"",
        b"no form at all",
        body(part('form-data; name="a"', more="X: " + "x" * MAX_HEADERS_BYTES + "\r\n")),
        body(part('form-data; name="a"', more="X: \xff\r\n").replace("\xff".encode(), b"\xff")),
    ],
)
def test_what_is_no_form_is_said_to_be_none(read, broken):
    with pytest.raises(Malformed, match="The form cannot be read"):
        read(broken)


@pytest.mark.parametrize("boundary", ["", "x" * 10_000, "\udcff"])
def test_a_boundary_that_cannot_be_one_is_refused(read, boundary):
    with pytest.raises(Malformed):
        read(body(part('form-data; name="a"')), boundary=boundary)


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="a"; ' + ";" * 4000,
        'form-data; name="a"; ' + "filename*0*=utf-8''%41;" * 170,
        'form-data; name="a"; filename*' + "9" * 3900 + "=b",
        'form-data; name="a"; filename*=' + "'" * 3900,
        'form-data; name="a"; filename="' + "\\" * 3900,
        'form-data; name="a"; ' + "=" * 3900,
        'form-data; name="a";' + " " * 3900 + "b",
        "form-data; name*=nonsense'%'%FF; name=a",
    ],
)
def test_no_header_of_a_part_takes_long(read, disposition):
    started = time.process_time()
    fields, files = read(body(*[part(disposition)] * 100))
    assert time.process_time() - started < 1
    assert len(fields) + len(files) == 100
