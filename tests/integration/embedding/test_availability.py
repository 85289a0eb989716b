"""Which models load is written down: what is here, what is not, and nothing of what only a hub could tell."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from sqlalchemy import text

from services.embedding import availability, store
from services.embedding.availability import Looking, missing_here, note_what_loads
from services.local import usable_models
from shared import catalog
from shared.settings import Settings

pytestmark = pytest.mark.integration

OWN = {
    "member": {"library": "torchvision", "weights": "ResNet50_Weights.IMAGENET1K_V2"},
    "folder": {"library": "transformers", "weights": "/nowhere/at/all"},
}


@pytest.fixture
def settings(database_url, tmp_path) -> Settings:
    return Settings(database_url=database_url, weights_dir=tmp_path, hub=False, own_models=OWN)


def rows_of(database):
    with database.transaction() as connection:
        rows = connection.execute(
            text("SELECT name, missing FROM models WHERE looked_at > now() - interval '1 minute'")
        )
        return {row.name: row.missing for row in rows}


def test_what_the_folder_and_packages_hold_loads_and_the_rest_is_missing(settings, database, tmp_path):
    (tmp_path / "vit_mae_base").mkdir()
    assert note_what_loads(settings, database) == rows_of(database)
    found = rows_of(database)
    assert {name for name, missing in found.items() if missing is None} == {
        "hog_color", "efficientnet_lite0", "vit_mae_base", "vit_mae_base_masked_sum"
    }  # fmt: skip
    assert found["efficientnet_b0"].startswith("The weights of efficientnet_b0 are missing: ")
    assert "/nowhere/at/all" in found["folder"]
    assert "member" not in found, "only torchvision knows its file"
    (tmp_path / "efficientnet_b0.pth").touch()
    note_what_loads(settings, database)
    assert rows_of(database)["efficientnet_b0"] is None


def test_where_the_hub_may_be_asked_nothing_is_said_of_what_it_may_have(settings):
    models = catalog.models(OWN).values()
    assert set(missing_here(models, replace(settings, hub=True))) == {"hog_color", "efficientnet_lite0", "folder"}


def eventually(condition) -> None:
    give_up_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def test_a_worker_looks_until_it_is_stopped_and_waits_for_a_database_that_is_away(settings, database, monkeypatch):
    monkeypatch.setattr(availability, "TRY_AGAIN_S", 0.1)
    monkeypatch.setattr(availability, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(availability, "STOP_LOOK_S", 0.05)
    stopped: list[bool] = []
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE models RENAME TO elsewhere"))
    looking = Looking(settings, lambda: bool(stopped))
    looking.start()
    time.sleep(0.3)
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO models"))
    eventually(lambda: rows_of(database).get("hog_color", "not yet") is None)
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM models"))
    eventually(lambda: rows_of(database).get("hog_color", "not yet") is None)
    stopped.append(True)
    looking.join(5)
    assert not looking.is_alive()


def test_between_two_looks_a_worker_has_no_connection_for_it(settings, database, monkeypatch):
    monkeypatch.setattr(availability, "STOP_LOOK_S", 0.05)
    stopped: list[bool] = []
    looking = Looking(settings, lambda: bool(stopped))
    looking.start()
    eventually(lambda: rows_of(database))

    def connections() -> int:
        with database.transaction() as connection:
            return connection.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reelmap-models'")
            ).scalar_one()

    eventually(lambda: connections() == 0)
    assert looking.is_alive()
    stopped.append(True)
    looking.join(5)
    assert not looking.is_alive()


def test_a_model_that_was_loaded_is_not_missing(database):
    class Loaded:
        dimension, fingerprint = 4, "first weights"

    with database.transaction() as connection:
        store.note_missing(connection, {"net": "not in the folder"})
        store.register_model(connection, "net", Loaded())
    assert rows_of(database) == {"net": None}


def test_asking_the_hubs_is_written_down_too(settings, database, tmp_path, monkeypatch):
    for name, value in settings.to_environ().items():
        monkeypatch.setenv(name, value)
    usable_models.main()
    found = rows_of(database)
    assert set(found) == set(catalog.models(OWN))
    assert found["efficientnet_lite0"] is None
    assert "REELMAP_HUB switches the hub off" in found["member"]
