"""Names on the command line become URLs and files, each once and in order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.command_line.inputs import Inputs, Name, describe_bad, describe_skipped, find_inputs, read_list, readable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/two.MKV", "b/notes.txt", "a.mp4", ".hidden/c.mp4", "b/.d.mp4", "plain", "mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def targets(inputs: Inputs) -> tuple[str | Path, ...]:
    return tuple(video.target for video in inputs.videos)


def test_a_folder_gives_its_videos_at_any_depth_and_says_what_it_left_out(folder: Path) -> None:
    inputs = find_inputs([str(folder)])
    assert targets(inputs) == (folder / "a.mp4", folder / "b/two.MKV")
    assert inputs.skipped == (folder / "b/notes.txt", folder / "mp4", folder / "plain")


def test_a_file_that_is_named_by_itself_may_be_called_anything(folder: Path) -> None:
    assert targets(find_inputs([str(folder / "b/notes.txt")])) == (folder / "b/notes.txt",)


def test_everything_counts_once_in_the_order_of_its_first_naming(folder: Path) -> None:
    url = "https://example.org/v?id=1&t=2"
    names = [url, str(folder / "b/two.MKV"), str(folder), url, "upload:abc"]
    assert targets(find_inputs(names)) == (url, folder / "b/two.MKV", folder / "a.mp4", "upload:abc")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nothing-here.mp4", "neither a URL"),
        ("example.org/a.mp4", "neither a URL"),
        ("ftp://host/x.mp4", "only addresses that begin with"),
        ("http://u:p@127.0.0.1/x.mp4", "it carries a user name or password"),
        ("https://", "it names no host"),
        ("https://a.example/\udcff\ud800.mp4", "half of a surrogate pair"),
    ],
)
def test_a_name_of_nothing_is_told_with_its_reason(name: str, why: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = find_inputs([name, "https://example.org/a.mp4"])
    assert targets(inputs) == ("https://example.org/a.mp4",)
    [(bad, said)] = inputs.bad
    assert bad == Name(name)
    assert why in said
    assert "u:p" not in describe_bad(inputs.bad)


URLS = ["http://a.example/ü.mp4", "http://a.example/2.mp4"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_of_another_system_is_read(encoding: str, end: str) -> None:
    content = f"# videos{end}{end}{URLS[0]}{end}  {URLS[1]} {end}".encode(encoding)
    assert read_list(content, "list.txt") == [
        Name(URLS[0], "line 3 of list.txt"),
        Name(URLS[1], "line 4 of list.txt"),
    ]


def test_an_empty_list_names_nothing() -> None:
    for content in (b"", b"\n\n", b"\xef\xbb\xbf", b"\xff\xfe", b"# nothing"):
        assert read_list(content, "list.txt") == []


def test_a_list_names_files_whose_names_are_no_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    Path(os.fsdecode(path)).write_bytes(b"")
    [name] = read_list(path + b"\n", "list.txt")
    [video] = find_inputs([name]).videos
    assert isinstance(video.target, Path)
    assert os.fsencode(video.target) == path


def test_bad_lines_are_told_in_one_sentence_with_their_numbers_and_texts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["http://a.example/1.mp4", "http://u:p@b.example/x.mp4", "ftp://c.example/x.mp4", "http://a.example/2.mp4"]
    inputs = find_inputs(read_list("\n".join(lines).encode(), "mixed.txt"))
    assert targets(inputs) == (lines[0], lines[3])
    told = describe_bad(inputs.bad)
    assert told.startswith("2 names cannot be submitted: line 2 of mixed.txt, “http://…@b.example/x.mp4”: ")
    assert "; line 3 of mixed.txt, “ftp://c.example/x.mp4”: only addresses that begin with" in told
    many = describe_bad([(Name("x" * 1000, "line 1"), "why")] * 100)
    assert many.endswith("; and 95 more")
    assert len(many) < 1000


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"caf\xc3\xa9.mp4", "café.mp4"),
        (b"caf\xe9.mp4", "café.mp4"),
        (b"\x1b[31mred\xff.mp4", "[31mredÿ.mp4"),
        ("gpj\u202e.mp4".encode(), "gpj.mp4"),
        (b"plain.mp4", "plain.mp4"),
    ],
)
def test_a_files_name_is_sent_and_shown_readably(name: bytes, shown: str) -> None:
    assert readable(os.fsdecode(name)) == shown


def test_only_the_first_few_skipped_files_are_named() -> None:
    line = describe_skipped([Path(f"{i}.txt") for i in range(9)])
    assert line.endswith("0.txt, 1.txt, 2.txt, 3.txt, 4.txt, …")
    assert "9 files" in line
