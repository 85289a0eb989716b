"""Names on the command line become URLs and files, each once and in order."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from services.command_line.inputs import describe_skipped, find_inputs, read_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/two.MKV", "b/notes.txt", "a.mp4", ".hidden/c.mp4", "b/.d.mp4", "plain", "mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def test_a_folder_gives_its_videos_at_any_depth_and_says_what_it_left_out(folder: Path) -> None:
    inputs = find_inputs([str(folder)])
    assert inputs.videos == (folder / "a.mp4", folder / "b/two.MKV")
    assert inputs.skipped == (folder / "b/notes.txt", folder / "mp4", folder / "plain")


def test_a_file_that_is_named_by_itself_may_be_called_anything(folder: Path) -> None:
    assert find_inputs([str(folder / "b/notes.txt")]).videos == (folder / "b/notes.txt",)


def test_everything_counts_once_in_the_order_of_its_first_naming(folder: Path) -> None:
    url = "https://example.org/v?id=1&t=2"
    names = [url, str(folder / "b/two.MKV"), str(folder), url, "upload:abc"]
    assert find_inputs(names).videos == (url, folder / "b/two.MKV", folder / "a.mp4", "upload:abc")


@pytest.mark.parametrize("name", ["nothing-here.mp4", "example.org/a.mp4", ""])
def test_a_name_of_nothing_is_refused_before_anything_is_sent(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "":
        # The empty path is the current folder, which holds no video.
        assert find_inputs([name]).videos == ()
        return
    with pytest.raises(click.UsageError, match="neither a URL"):
        find_inputs([name])


def test_a_list_has_comments_and_empty_lines() -> None:
    assert read_list(["# videos\n", "\n", "  https://a.example/1.mp4 \n", "b.mp4"]) == [
        "https://a.example/1.mp4",
        "b.mp4",
    ]


def test_only_the_first_few_skipped_files_are_named() -> None:
    line = describe_skipped([Path(f"{i}.txt") for i in range(9)])
    assert line.endswith("0.txt, 1.txt, 2.txt, 3.txt, 4.txt, …")
    assert "9 files" in line
