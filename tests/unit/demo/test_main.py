"""The demo's folder: its own is wiped, nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from services.demo import main as demo
from services.local.lock import FolderLock
from shared.errors import PermanentError


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(PermanentError, match="holds something else"):
        demo.wipe(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_the_folder_of_an_earlier_demo_is_wiped(tmp_path: Path) -> None:
    folder = tmp_path / "build" / "demo"
    demo.wipe(folder)
    (folder / "index.html").touch()
    (folder / "data").mkdir()
    demo.wipe(folder)
    assert [path.name for path in folder.iterdir()] == [demo.MARK]


def test_the_folder_of_a_running_demo_is_left_alone(tmp_path: Path) -> None:
    demo.wipe(tmp_path)
    (tmp_path / "data").mkdir()
    with FolderLock(tmp_path / "data", "a demo"), pytest.raises(PermanentError, match="another demo"):
        demo.wipe(tmp_path)
    assert (tmp_path / "data").exists()


@pytest.mark.parametrize(("variable", "value"), [("REELMAP_ACCESS", "keys"), ("REELMAP_TRUSTED_PROXIES", "1")])
def test_who_asks_for_keys_gets_no_open_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(demo.main, [])
    assert result.exit_code == 2
    assert "The demo asks for no key" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["nothing.mp4"], 2, "neither a URL"),
        (["--models", "magic", "https://a.example/1.mp4"], 2, "there is no model 'magic'"),
        (["--models", "hog_color", "empty"], 1, "There is no video in empty"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], exit_code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(demo.main, arguments)
    assert result.exit_code == exit_code
    assert said in result.stderr
