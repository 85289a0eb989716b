"""Which models can be used right now: their weights are in the weights folder, or their hub answers soon."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.embedding.weights import Hub, HuggingFace, TorchFile, hub_of
from shared.catalog import Model

HUB_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Choice:
    """left_out: sentences, each saying which model, why, and what to do."""

    usable: tuple[str, ...]
    left_out: tuple[str, ...]


def choose_models(models: Sequence[Model], weights_dir: Path | None, *, use_hub: bool) -> Choice:
    """Sort models into usable ones and others, asking their hubs at the same time."""
    usable, left_out = [], []
    to_ask = [model for model in models if model.missing_weights(weights_dir, hub=False) is not None and model.hub]
    answering = _hubs_that_answer(to_ask) if use_hub else set()
    for model in models:
        missing = model.missing_weights(weights_dir, hub=False)
        if missing is None or model.name in answering:
            usable.append(model.name)
        elif (source := hub_of(model.hub)) is None:
            left_out.append(missing)
        else:
            left_out.append(_left_out(model, source, weights_dir, use_hub=use_hub))
    return Choice(tuple(usable), tuple(left_out))


def _left_out(model: Model, source: Hub, weights_dir: Path | None, *, use_hub: bool) -> str:
    hub = f"its hub did not answer within {HUB_TIMEOUT_S:.0f} s" if use_hub else "REELMAP_HUB switches the hub off"
    where = f"its weights are not in {weights_dir}" if weights_dir else "REELMAP_WEIGHTS_DIR names no folder of weights"
    return (
        f"{model.name} is left out: {where}, and {hub}. On a machine with a network run "
        f"`{source.command(model.weights[0])}`, put the result into a folder, and set REELMAP_WEIGHTS_DIR to it."
    )


def _hubs_that_answer(models: Sequence[Model]) -> set[str]:
    """Names of the models whose hub answers in time. Threads, because looking a name up has no timeout of its own."""
    answering: set[str] = set()

    def ask(model: Model) -> None:
        hub = hub_of(model.hub)
        if hub is not None and _answers(_url(hub)):
            answering.add(model.name)

    threads = [threading.Thread(target=ask, args=(model,), daemon=True) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HUB_TIMEOUT_S)
    return set(answering)


def _answers(url: str) -> bool:
    import requests

    try:
        return requests.head(url, timeout=HUB_TIMEOUT_S, allow_redirects=True).ok
    except requests.RequestException:
        return False


def _url(hub: Hub) -> str:
    """A small thing, or the weights' own address, that the hub has when it can deliver the model."""
    if isinstance(hub, TorchFile):
        return hub.url
    from huggingface_hub import hf_hub_url

    assert isinstance(hub, HuggingFace)
    return hf_hub_url(hub.repository, "config.json")
