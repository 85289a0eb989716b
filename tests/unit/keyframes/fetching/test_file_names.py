from __future__ import annotations

import time

import pytest

from services.keyframes.fetching.file_names import MAX_HEADER_CHARACTERS, file_name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="my film.mp4"', "my film.mp4"),
        ("attachment; filename=film.mp4", "film.mp4"),
        ('attachment; FileName="a \\"b\\".mp4"', 'a "b".mp4'),
        ("attachment; filename*=UTF-8''f%C3%BC%C3%9Fe.mp4", "füße.mp4"),
        ("attachment; filename*=utf-8'de'f%C3%BC.mp4", "fü.mp4"),
        ("attachment; filename*=ISO-8859-1''f%FC.mp4", "fü.mp4"),
        # The one with a charset is meant, wherever it stands.
        ("attachment; filename*=UTF-8''%D0%9B.mp4; filename=\"x.mp4\"", "Л.mp4"),
        ("attachment; filename=\"x.mp4\"; filename*=UTF-8''%D0%9B.mp4", "Л.mp4"),
        # One that cannot be read is not.
        ("attachment; filename=\"x.mp4\"; filename*=klingon''%D0.mp4", "x.mp4"),
        ("attachment; filename=\"x.mp4\"; filename*=UTF-8''%FF%FE", "x.mp4"),
        ('attachment; filename="x.mp4"; filename*=nonsense', "x.mp4"),
        ("filename=f\xc3\xbc.mp4", "fü.mp4"),
        ("attachment;filename=a.mp4;filename=b.mp4", "a.mp4"),
        ('attachment; filename="unfinished.mp4', "end.mp4"),
        ("attachment", "end.mp4"),
        ("", "end.mp4"),
    ],
)
def test_the_name_a_server_gives(header: str, name: str) -> None:
    assert file_name(header, "/path/end.mp4?x=y") == name


@pytest.mark.parametrize(
    "header",
    [";" * 65_000, "a=" * 32_000, '"' * 65_000, 'filename="' + "\\" * 4000, "=" * 4000, "a" * 4000, "filename" * 500],
)
def test_a_header_made_to_be_slow_is_not(header: str) -> None:
    started_s = time.process_time()
    for part in (header, header[:MAX_HEADER_CHARACTERS]):
        assert file_name(part, "/end.mp4")
    assert time.process_time() - started_s < 0.2
