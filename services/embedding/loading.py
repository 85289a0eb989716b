"""Loads the model that an entry of the catalog names.

Pure: the folder of weights, the use of the hub and the device come as arguments.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from services.embedding import models
from services.embedding.embedder import Embedder
from shared.catalog import Model


def load_embedder(model: Model, weights_dir: Path | None, *, hub: bool, device: str = "auto") -> Embedder:
    """The model, ready to embed.

    device: `auto` takes the first GPU where there is one. Raises `PermanentError` (weights_missing) saying what to do.
    """
    if model.own is not None:
        from services.embedding.own_model import load_own

        return load_own(model.own, weights_dir, hub=hub, device=_resolve(device))
    module = importlib.import_module(f"{models.__name__}.{model.name}")
    # A model that needs no weights needs no torch, and then no device either.
    embedder: Embedder = module.load(weights_dir, hub=hub, device=_resolve(device) if model.weights else "cpu")
    return embedder


def _resolve(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
