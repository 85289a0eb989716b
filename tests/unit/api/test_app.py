"""Making the application."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from services.api import server
from services.api.app import create_app
from shared.parameters import BadParameter
from shared.settings import SettingError, Settings
from shared.startup import EXIT_REFUSED


def test_an_application_without_a_database_is_not_made(tmp_path):
    with pytest.raises(SettingError, match="REELMAP_DATABASE_URL"):
        create_app(Settings(blobs_folder=tmp_path, own_models={}))


def test_a_wrong_own_model_is_told_at_the_start(tmp_path):
    own_models = {"mine": {"library": "keras", "weights": "x"}}
    with pytest.raises(BadParameter, match="keras"):
        create_app(
            Settings(
                database_url="postgresql+psycopg2:///x", blobs_folder=tmp_path, own_models=own_models, access="open"
            )
        )


def settings(tmp_path, **more) -> Settings:
    return Settings(database_url="postgresql+psycopg2:///x", blobs_folder=tmp_path, own_models={}, **more)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.1.5", "reelmap.example"])
def test_an_application_without_keys_listens_on_this_machine_only(tmp_path, host):
    with pytest.raises(SettingError, match="REELMAP_ACCESS=keys"):
        create_app(settings(tmp_path, access="open", api_host=host))
    create_app(settings(tmp_path, access="open", api_host="::1"))


def test_an_open_application_believes_no_proxy(tmp_path):
    with pytest.raises(SettingError, match="REELMAP_TRUSTED_PROXIES is 1"):
        create_app(settings(tmp_path, access="open", trusted_proxies=1))
    create_app(settings(tmp_path, access="keys", cookie_secret="x" * 32, trusted_proxies=1))


def test_an_application_with_keys_needs_a_secret_to_sign_with(tmp_path):
    with pytest.raises(SettingError, match="REELMAP_COOKIE_SECRET is not set"):
        create_app(settings(tmp_path))
    create_app(settings(tmp_path, cookie_secret="x" * 32, api_host="0.0.0.0"))


@pytest.fixture
def own_logging() -> Iterator[None]:
    """An entry point takes the whole process's log; the tests after this one get theirs back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("own_logging")
def test_a_server_that_would_let_strangers_in_does_not_start_and_says_why(tmp_path, monkeypatch, capsys):
    for name, value in settings(tmp_path, access="open", api_host="0.0.0.0").to_environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["server"])
    with pytest.raises(SystemExit) as ended:
        server.main()
    assert ended.value.code == EXIT_REFUSED
    assert "REELMAP_ACCESS (--access) is 'open'" in capsys.readouterr().err
