"""Models whose weights can be had are used, the others are left out with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.embedding.weights import hub_of
from services.local import usable_models
from services.local.usable_models import choose_models
from shared import catalog
from shared.catalog import Model

#: A hub that refuses at once, so that no test looks beyond this machine.
NO_HUB = "http://127.0.0.1:9"

NETWORK = Model("network", "t", 4, weights=("network",), hub="someone/network")
FREE = Model("free", "t", 4)


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usable_models, "_url", lambda hub: f"{NO_HUB}/{hub.repository}")


def test_weights_in_the_folder_are_enough(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    assert choose_models([NETWORK, FREE], tmp_path, use_hub=False).usable == ("network", "free")


@pytest.mark.parametrize("use_hub", [True, False])
def test_a_model_that_cannot_be_had_is_left_out_with_what_to_do(tmp_path: Path, use_hub: bool) -> None:
    choice = choose_models([NETWORK, FREE], tmp_path, use_hub=use_hub)
    assert choice.usable == ("free",)
    [sentence] = choice.left_out
    assert sentence.startswith("network is left out: ")
    assert ("did not answer" in sentence) == use_hub
    assert "hf download someone/network --local-dir network" in sentence
    assert "REELMAP_WEIGHTS_DIR" in sentence


def test_a_hub_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    import time

    release = threading.Event()
    monkeypatch.setattr(usable_models, "HUB_TIMEOUT_S", 0.1)
    monkeypatch.setattr(usable_models, "_answers", lambda url: release.wait(5))
    started_at = time.monotonic()
    assert choose_models([NETWORK], None, use_hub=True).usable == ()
    assert time.monotonic() - started_at < 2
    release.set()


def test_every_model_with_a_hub_has_an_address_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for model in catalog.models({}).values():
        if model.hub is not None:
            assert usable_models._url(hub_of(model.hub)).startswith("https://")
            assert hub_of(model.hub).command(model.weights[0])
