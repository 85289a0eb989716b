"""Models whose weights can be had are used, the others are left out with what to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from services.local import usable_models
from services.local.usable_models import choose_models
from shared import catalog
from shared.catalog import Model
from shared.weights import PackagedFile, TorchFile, Weights

#: A hub that refuses at once, so that no test looks beyond this machine.
NO_HUB = "http://127.0.0.1:9"

NETWORK = Model("network", "t", 4, Weights(("network.pth",), hub=TorchFile(f"{NO_HUB}/network.pth")))
PACKAGED = Model("packaged", "t", 4, Weights(("p.pth",), PackagedFile("pytest", "0", "pytest/__init__.py", sha256="")))
FREE = Model("free", "t", 4)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))


@pytest.fixture
def hub() -> Iterator[tuple[str, threading.Event]]:
    """The address of a hub that has everything, and lets it be waited for until the event is set."""
    may_answer = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            may_answer.wait(5)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", may_answer
        may_answer.set()
        server.shutdown()


def on_hub(name: str, address: str) -> Model:
    return Model(name, "t", 4, Weights((f"{name}.pth",), hub=TorchFile(f"{address}/{name}.pth")))


def test_weights_in_the_folder_or_in_a_package_are_enough(tmp_path: Path) -> None:
    (tmp_path / "network.pth").touch()
    choice = choose_models([NETWORK, PACKAGED, FREE], tmp_path, use_hub=False)
    assert (choice.usable, choice.left_out) == (("network", "packaged", "free"), {})


@pytest.mark.parametrize("use_hub", [True, False])
def test_a_model_that_cannot_be_had_is_left_out_with_what_to_do(tmp_path: Path, use_hub: bool) -> None:
    choice = choose_models([NETWORK, FREE], tmp_path, use_hub=use_hub)
    assert choice.usable == ("free",)
    sentence = choice.left_out["network"]
    assert sentence.startswith("The weights of network are missing: ")
    assert ("did not answer within 2 s" in sentence) == use_hub
    assert f"curl --fail --location --output network.pth {NO_HUB}/network.pth" in sentence
    assert "REELMAP_WEIGHTS_DIR" in sentence


def test_what_a_hub_left_on_this_machine_needs_no_answer(tmp_path: Path) -> None:
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "network.pth").touch()
    assert choose_models([NETWORK], None, use_hub=True).usable == ("network",)
    assert choose_models([NETWORK], None, use_hub=False).usable == ()


def test_hubs_that_answer_are_enough_and_those_that_never_do_are_not_waited_for_each(
    hub: tuple[str, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, may_answer = hub
    models = [on_hub(f"net{number}", address) for number in range(4)]
    monkeypatch.setattr(usable_models, "HUB_TIMEOUT_S", 0.3)
    started_at = time.monotonic()
    assert choose_models(models, None, use_hub=True).usable == ()
    assert time.monotonic() - started_at < 0.9
    may_answer.set()
    monkeypatch.undo()
    assert choose_models(models, None, use_hub=True).usable == ("net0", "net1", "net2", "net3")


def test_every_model_with_a_hub_has_an_address_there() -> None:
    for model in catalog.models({}).values():
        if model.weights and model.weights.hub:
            assert usable_models._address(model.weights.hub).startswith("https://")
