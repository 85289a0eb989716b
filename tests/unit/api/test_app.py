"""Making the application."""

from __future__ import annotations

import pytest

from services.api.app import create_app
from shared.catalog import BadParameter
from shared.settings import SettingError, Settings


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
