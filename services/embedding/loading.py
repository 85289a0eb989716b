"""Loads the model that an entry of the catalog names.

Pure: the folder of weights, the use of the hub and the device come as arguments.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from services.embedding import models
from services.embedding.embedder import Embedder
from services.embedding.weights import find_weights
from shared.catalog import Model


def load_embedder(model: Model, weights_dir: Path | None, *, hub: bool, device: str = "auto") -> Embedder:
    """The model, ready to embed, with weights from the folder, a package or, where `hub` allows it, their hub.

    device: `auto` takes the first GPU where there is one. Raises `PermanentError` (weights_missing) saying what to do.
    """
    # A model that needs no weights needs no torch, and then no device either.
    path = find_weights(model.name, model.weights, weights_dir, hub=hub) if model.weights else None
    device = _resolve(device) if model.weights else "cpu"
    if model.own is not None:
        from services.embedding.own_model import load_own

        assert path is not None
        return load_own(model.own, path, device=device)
    module = importlib.import_module(f"{models.__name__}.{model.name}")
    embedder: Embedder = module.load(path, device=device)
    return embedder


def _resolve(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
