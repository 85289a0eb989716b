"""Loads a model that a person brings by a setting, without code: a torchvision backbone or a transformers network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from services.embedding.embedder import Embedder
from shared.errors import ErrorKind, PermanentError

if TYPE_CHECKING:
    import torch
    from torchvision.models import WeightsEnum

    from services.embedding.torchvision_backbone import Preprocessing


class OwnModel(Protocol):
    """What the setting says of the model; see `shared.catalog.OwnModel`."""

    @property
    def library(self) -> str: ...
    @property
    def weights(self) -> str: ...
    @property
    def architecture(self) -> str | None: ...
    @property
    def pooling(self) -> str: ...
    @property
    def preprocessing(self) -> Mapping[str, Any] | None: ...


def load_own(own: OwnModel, path: Path, *, device: str) -> Embedder:
    """The embedder that the setting describes, with the weights in `path`; its dimension is measured, not declared.

    Raises `PermanentError`: weights_missing, or bad_parameters when the setting does not fit the network.
    """
    load = {"torchvision": _load_torchvision, "transformers": _load_transformers}[own.library]
    return load(own, path, device=device)


def _load_torchvision(own: OwnModel, path: Path, *, device: str) -> Embedder:
    """Weights: a member such as `ResNet50_Weights.IMAGENET1K_V2`, or a state dict with `architecture`."""
    import torchvision

    from services.embedding.torchvision_backbone import architecture_of, load_backbone

    pretrained = _torchvision_weights(own.weights)
    architecture = architecture_of(pretrained) if pretrained else own.architecture
    networks = torchvision.models.list_models(module=torchvision.models)
    if architecture is None or architecture not in networks:
        raise _bad_setting(own, "`architecture` is not the name of a classification network, such as mobilenet_v2")
    pooling = "class_token" if architecture.startswith("vit_") else "mean"
    if own.pooling != pooling:
        raise _bad_setting(own, f"`pooling` of torchvision's {architecture} is {pooling}, not {own.pooling}")
    preprocessing = _preprocessing(own, architecture, pretrained)
    return load_backbone(own.weights, architecture, path, preprocessing, device=device)


def _torchvision_weights(name: str) -> WeightsEnum | None:
    """The member of that name; None for the name of a file."""
    import torchvision

    if not re.fullmatch(r"\w+_Weights\.\w+", name):
        return None
    try:
        weights: WeightsEnum = torchvision.models.get_weight(name)
    except (ValueError, KeyError):
        return None
    return weights


def _preprocessing(own: OwnModel, architecture: str, pretrained: WeightsEnum | None) -> Preprocessing:
    """As the setting says, else as torchvision says of these weights or of the file of that name."""
    import torchvision

    from services.embedding.torchvision_backbone import Preprocessing

    if own.preprocessing is not None:
        try:
            return Preprocessing.from_setting(own.preprocessing)
        except (TypeError, ValueError) as error:
            raise _bad_setting(own, f"`preprocessing` is wrong: {error}") from error
    known = [pretrained] if pretrained else torchvision.models.get_model_weights(architecture)
    for weights in known:
        if pretrained or weights.url.endswith(f"/{Path(own.weights).name}"):
            return Preprocessing.of(weights)
    needed = "resize_px, interpolation, crop_px, mean, std"
    raise _bad_setting(own, f"the file is none of torchvision's own, so it needs `preprocessing`: {needed}")


def _load_transformers(own: OwnModel, path: Path, *, device: str) -> Embedder:
    """Weights: a folder, or a repository of Hugging Face such as `facebook/dinov2-base`."""
    from services.embedding.transformers_backbone import load_backbone

    unused = () if own.pooling == "pooler" else ("pooler.",)
    backbone = load_backbone(own.weights, path, "AutoModel", unused=unused)

    def forward(pixel_values: torch.Tensor) -> torch.Tensor:
        pooled = _pooled(own.pooling, _output(backbone.network, pixel_values))
        if pooled is None:
            network = type(backbone.network).__name__
            raise _bad_setting(own, f"{network} gives nothing that `pooling` {own.pooling} could take")
        return pooled

    return backbone.embedder(forward, pooling=own.pooling, device=device)


def _output(network: Any, pixel_values: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """What the network makes of whole pictures: `last_hidden_state` and, from many, `pooler_output`."""
    if network.config.model_type == "vit_mae":
        from services.embedding.vit_mae import all_tokens

        return {"last_hidden_state": all_tokens(network, pixel_values)}
    # CLIP and its relatives have a text side too, which pictures do not pass.
    run = getattr(network, "get_image_features", network)
    output: Mapping[str, torch.Tensor] = run(pixel_values=pixel_values)
    return output


def _pooled(pooling: str, output: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """(batch, d) from tokens (batch, tokens, d) or a feature map (batch, d, H, W); None where that cannot be."""
    if pooling == "pooler":
        pooled = output.get("pooler_output")
        return None if pooled is None else pooled.flatten(1)
    features = output["last_hidden_state"]
    if pooling == "mean":
        return features.mean((2, 3)) if features.ndim == 4 else features.mean(1)
    return features[:, 0] if features.ndim == 3 else None


def _bad_setting(own: OwnModel, reason: str) -> PermanentError:
    return PermanentError(
        ErrorKind.BAD_PARAMETERS,
        f"The own model of {own.library}, {own.weights}, cannot be loaded: {reason}. Correct REELMAP_OWN_MODELS.",
    )
