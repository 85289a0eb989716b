"""Which models can be used right now: their weights are on this machine, or their hub answers soon.

`python -m services.local.usable_models` writes it down for the API; `reelmap up` runs it beside the start, because
loading what knows the hubs' addresses takes seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.embedding import store
from services.embedding.weights import CONFIGURATION_FILES, at_hand, cached, missing, torchvision_file
from shared import catalog
from shared.catalog import Model
from shared.db import Database
from shared.settings import load_settings
from shared.startup import explained
from shared.weights import Hub, HuggingFace, TorchFile, TorchvisionMember

#: For all hubs together, asked at the same time.
HUB_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Choice:
    """left_out: model → a sentence that says why, and what to do."""

    usable: tuple[str, ...]
    left_out: Mapping[str, str]


def choose_models(models: Sequence[Model], weights_dir: Path | None, *, use_hub: bool) -> Choice:
    """Sort models into usable ones and others; hubs are asked only for what this machine has not."""
    absent = [model for model in models if model.weights and at_hand(model.weights, weights_dir) is None]
    hubs = {model.name: model.weights.hub for model in absent if model.weights and model.weights.hub}
    answering = _that_answer(hubs) if use_hub else set()
    hub_says = f"its hub did not answer within {HUB_TIMEOUT_S:g} s" if use_hub else "REELMAP_HUB switches the hub off"
    left_out = {
        model.name: missing(model.name, model.weights, weights_dir, hub_says=hub_says).message
        for model in absent
        if model.weights and model.name not in answering
    }
    return Choice(tuple(model.name for model in models if model.name not in left_out), left_out)


def _that_answer(hubs: Mapping[str, Hub]) -> set[str]:
    """Names of those whose hub answers in time, or was asked for them before and left them on this machine."""
    answering = {name for name, hub in hubs.items() if cached(hub)}
    # What an address takes to find out, such as loading torchvision, is not the hub's time.
    addresses = {name: _address(hub) for name, hub in hubs.items() if name not in answering}

    def ask(name: str, address: str) -> None:
        if _answers(address):
            answering.add(name)

    # Threads, because looking a name up has no timeout of its own.
    threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in addresses.items()]
    give_up_at = time.monotonic() + HUB_TIMEOUT_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, give_up_at - time.monotonic()))
    return set(answering)


def _answers(address: str) -> bool:
    import requests

    try:
        return requests.head(address, timeout=HUB_TIMEOUT_S, allow_redirects=True).ok
    except requests.RequestException:
        return False


def _address(hub: Hub) -> str:
    """A small thing, or the weights themselves, that the hub has when it can deliver the model."""
    match hub:
        case HuggingFace(repository):
            from huggingface_hub import hf_hub_url

            return hf_hub_url(repository, CONFIGURATION_FILES[0])
        case TorchFile(url):
            return url
        case TorchvisionMember():
            return torchvision_file(hub).url


@explained()
def main() -> None:
    """Ask once, and write down which models can be had, and of the others why not."""
    settings = load_settings()
    settings.require("database_url")
    models = list(catalog.models(settings.own_models).values())
    choice = choose_models(models, settings.weights_dir, use_hub=settings.hub)
    database = Database(settings.database_url, application_name="reelmap-models")
    told = {model.name: choice.left_out.get(model.name) for model in models}
    database.retrying(lambda connection: store.note_missing(connection, told))


if __name__ == "__main__":
    main()
