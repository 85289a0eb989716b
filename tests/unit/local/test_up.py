"""Which processes `reelmap up` starts, and with what settings."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.local import up
from services.local.installation import make_folder
from shared.errors import PermanentError
from shared.pipeline import Queue
from shared.settings import SettingError, Settings, load_settings

DATABASE, REDIS = "postgresql+psycopg2://reelmap@/reelmap?host=%2Ftmp%2Fx", "redis://:secret@127.0.0.1:7777/0"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    own = load_settings({"REELMAP_WEIGHTS_DIR": "/weights", "REELMAP_OWN_MODELS": '{"a": {}}'})
    return up.embedded(replace(own, api_host="0.0.0.0", api_port=8123), tmp_path, DATABASE, REDIS)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with up.listen("127.0.0.1", 0) as listener:
        yield listener


def test_every_process_reads_the_settings_that_it_was_started_with(settings: Settings, listener: socket.socket) -> None:
    for child in up.children(settings, listener):
        own = load_settings(child.env)
        assert replace(own, cookie_secret=settings.cookie_secret) == settings


def test_a_secret_is_given_to_the_process_that_uses_it_and_to_no_other(
    settings: Settings, listener: socket.socket
) -> None:
    children = up.children(replace(settings, key="rmk_secret"), listener)
    given = {child.name: load_settings(child.env) for child in children}
    assert given["api"].cookie_secret == settings.cookie_secret
    assert {own.cookie_secret for name, own in given.items() if name != "api"} == {""}
    # Said, not left out: the process would find our own variable otherwise.
    assert {child.env["REELMAP_KEY"] for child in children} == {""}


def test_the_persons_own_settings_hold_beside_those_of_the_folder(settings: Settings, tmp_path: Path) -> None:
    assert settings.weights_dir == Path("/weights")
    assert settings.own_models == {"a": {}}
    assert (settings.blobs_folder, settings.work_folder) == (tmp_path / "blobs", tmp_path / "work")
    assert settings.blobs_folder is not None and settings.blobs_folder.is_dir()


def test_pictures_are_in_a_bucket_where_one_is_named(settings: Settings, tmp_path: Path) -> None:
    with_bucket = replace(settings, blobs_bucket="pictures", blobs_folder=None)
    folder = tmp_path / "other"
    folder.mkdir()
    assert up.embedded(with_bucket, folder, "", "").blobs_folder is None
    assert not (folder / "blobs").exists()
    picture = tmp_path / "blobs" / "pictures" / "1.jpg"
    picture.parent.mkdir()
    picture.touch()
    with pytest.raises(PermanentError, match="there are pictures in"):
        up.embedded(with_bucket, tmp_path, "", "")


def test_a_process_for_each_queue_and_every_module_is_there(settings: Settings, listener: socket.socket) -> None:
    children = {child.name: child for child in up.children(settings, listener)}
    assert set(children) == {"api", "dispatcher", *(queue.value for queue in Queue), "models"}
    assert [name for name, child in children.items() if child.once] == ["models"]
    for child in children.values():
        module = child.argv[child.argv.index("-m") + 1]
        assert importlib.util.find_spec(module) is not None


def test_no_two_processes_touch_the_same_file(settings: Settings, listener: socket.socket) -> None:
    children = up.children(replace(settings, alive_file=Path("/run/reelmap/alive")), listener)
    named = {child.name: load_settings(child.env).alive_file for child in children}
    assert named == {child.name: Path(f"/run/reelmap/alive-{child.name}") for child in children}


def test_the_api_stops_first_and_workers_get_their_grace(settings: Settings, listener: socket.socket) -> None:
    children = up.children(settings, listener)
    assert children[0].name == "api"
    assert all(child.stop_timeout_s > settings.stop_grace_s for child in children)


def test_as_many_videos_are_decoded_at_once_as_there_are_cores_unless_the_person_says(tmp_path: Path) -> None:
    chosen = load_settings({"REELMAP_KEYFRAMES_PROCESSES": "5"})
    assert up.embedded(chosen, tmp_path, DATABASE, REDIS).keyframes_processes == 5
    assert 1 <= up.embedded(load_settings({}), tmp_path, DATABASE, REDIS).keyframes_processes <= up.cores()


def test_a_port_that_is_taken_is_said_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PermanentError, match=rf"Port {port} of 127.0.0.1 cannot be used \([^(]+\)\."):
            up.listen("127.0.0.1", port)
    with up.listen("127.0.0.1", port) as ours:
        assert up.port_of(ours) == port
    with up.listen("127.0.0.1", 0) as any_port:
        assert up.port_of(any_port) > 0


def test_where_our_streams_are_closed_the_port_takes_no_number_of_theirs() -> None:
    code = "from services.local.up import listen; raise SystemExit(listen('127.0.0.1', 0).fileno())"
    ended = subprocess.run(["sh", "-c", 'exec "$0" "$@" <&-', sys.executable, "-c", code], check=False)
    assert ended.returncode > 2


def test_the_page_of_a_server_for_everybody_is_reached_on_this_machine() -> None:
    assert up.page_url("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert up.page_url("192.168.1.5", 80) == "http://192.168.1.5:80"


def test_waiting_for_a_server_that_never_comes_ends(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    monkeypatch.setattr(up, "READY_TIMEOUT_S", 0.3)
    monkeypatch.setattr(up, "READY_ANSWER_S", 0.05)
    turns: list[None] = []
    page = up.page_url("127.0.0.1", up.port_of(listener))
    assert not up.wait_until_ready(page, lambda: turns.append(None))  # the port is ours, and nobody answers
    listener.close()
    assert not up.wait_until_ready(page, lambda: turns.append(None))
    assert len(turns) >= 2


def test_what_the_person_says_about_keys_holds_and_the_address_decides_where_nobody_says_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REELMAP_ACCESS", raising=False)
    assert up.settings_for(None, None).access == "open"
    assert up.settings_for("0.0.0.0", None).access == "keys"
    assert up.settings_for("127.0.0.1", "keys").access == "keys"
    monkeypatch.setenv("REELMAP_ACCESS", "keys")
    assert up.settings_for("127.0.0.1", None).access == "keys"
    assert up.settings_for("127.0.0.1", "open").access == "open"
    monkeypatch.setenv("REELMAP_ACCESS", "open")
    with pytest.raises(SettingError, match="everybody who can reach it"):
        up.settings_for("0.0.0.0", None)
    assert up.settings_for("0.0.0.0", "keys").api_host == "0.0.0.0"


def test_the_folder_keeps_what_sign_ins_are_signed_with_to_itself(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / up.COOKIE_SECRET_FILE
    assert settings.cookie_secret == file.read_text()
    assert len(settings.cookie_secret) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    again = up.embedded(replace(settings, cookie_secret=""), tmp_path, DATABASE, REDIS)
    assert again.cookie_secret == settings.cookie_secret
    own = up.embedded(replace(settings, cookie_secret="x" * 32), tmp_path, DATABASE, REDIS)
    assert own.cookie_secret == "x" * 32


@pytest.mark.parametrize("left", [b"", b"too short", bytes(64), b"\xff" * 64, b"line\n" * 10])
def test_a_secret_that_was_cut_or_damaged_is_made_anew(tmp_path: Path, left: bytes) -> None:
    file = tmp_path / up.COOKIE_SECRET_FILE
    file.write_bytes(left)
    secret = up.cookie_secret(tmp_path)
    assert len(secret) == 64
    assert up.cookie_secret(tmp_path) == secret == file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    file.write_text("a person's own secret, with a line end\n")
    assert up.cookie_secret(tmp_path) == "a person's own secret, with a line end"


def test_a_secret_that_cannot_be_written_leaves_the_old_file_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PermanentError, match=rf"{tmp_path}/{up.COOKIE_SECRET_FILE}, .*No space left"):
        up.cookie_secret(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_open_reelmap_needs_no_secret(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    assert up.embedded(replace(settings, access="open", cookie_secret=""), folder, DATABASE, REDIS).cookie_secret == ""
    assert not (folder / up.COOKIE_SECRET_FILE).exists()


def test_without_a_key_nothing_starts_that_others_could_reach(database_url: str, tmp_path: Path) -> None:
    from shared import keys
    from shared.db import Database
    from shared.roles import Role
    from shared.tables import DEFAULT_PROJECT_ID

    with pytest.raises(PermanentError, match=r"reelmap keys add NAME --role admin --folder '.*a b'"):
        up.require_a_key(database_url, "0.0.0.0", tmp_path / "a b")
    database = Database(database_url)
    with database.transaction() as connection:
        keys.add_key(connection, DEFAULT_PROJECT_ID, "ada", Role.ADMIN)
    database.dispose()
    up.require_a_key(database_url, "0.0.0.0", tmp_path)


@pytest.mark.parametrize(
    ("host", "page"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("::", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
    ],
)
def test_the_page_has_an_address_that_a_browser_takes(host, page):
    assert up.page_url(host, 8000) == page


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_every_kind_of_address_can_be_listened_on(host):
    with up.listen(host, 0) as listener, socket.create_connection((host, up.port_of(listener)), timeout=5):
        pass


@pytest.mark.parametrize("part", ["logs", "work", "."])
def test_a_file_in_the_place_of_a_folder_is_named(part, tmp_path):
    folder = tmp_path / "data"
    file = folder if part == "." else folder / part
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    with pytest.raises(PermanentError, match=rf"{re.escape(str(file))} is a file, and a folder is needed"):
        make_folder(folder / "work" / "keyframes")
        make_folder(folder / "logs")
