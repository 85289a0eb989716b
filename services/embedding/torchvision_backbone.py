"""Loads torchvision classification networks as embedders: everything before the classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, functional

from services.embedding.embedder import Rgb
from services.embedding.fingerprint import fingerprint
from services.embedding.torch_embedder import TorchEmbedder, middle, weights_of
from services.embedding.weights import unusable

#: What torchvision calls the part that turns the embedding into classes.
HEADS = ("classifier", "fc", "head", "heads")


@dataclass(frozen=True)
class Preprocessing:
    """What torchvision's classification networks see: the middle of the picture, its short side resized first."""

    resize_px: int
    crop_px: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, weights: torchvision.models.WeightsEnum) -> Preprocessing:
        """As the pretrained weights were trained for."""
        preset = weights.transforms()
        return cls(
            resize_px=preset.resize_size[0],
            crop_px=preset.crop_size[0],
            interpolation=preset.interpolation.value,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        )

    @classmethod
    def from_setting(cls, given: Mapping[str, Any]) -> Preprocessing:
        """From JSON values; `mean` and `std` may be one number for all channels. Raises `ValueError`, `TypeError`."""
        channels = {name: tuple(np.broadcast_to(given[name], 3).tolist()) for name in ("mean", "std") if name in given}
        preprocessing = cls(**{**given, **channels})
        InterpolationMode(preprocessing.interpolation)
        return preprocessing

    def __call__(self, rgb: Rgb) -> torch.Tensor:
        """Returns float32 (3, crop_px, crop_px)."""
        # Pillow's resizing, not the tensors': that is what the reference accuracies were measured with.
        image = Image.fromarray(np.ascontiguousarray(middle(rgb)))
        image = functional.resize(image, [self.resize_px], InterpolationMode(self.interpolation))
        pixels = functional.to_tensor(functional.center_crop(image, [self.crop_px]))
        normalised: torch.Tensor = functional.normalize(pixels, list(self.mean), list(self.std))
        return normalised


def architecture_of(weights: torchvision.models.WeightsEnum) -> str:
    """The builder that one of torchvision's own weights belongs to, such as `resnet50`."""
    builders: list[str] = torchvision.models.list_models()
    return next(name for name in builders if torchvision.models.get_model_weights(name) is type(weights))


def load_backbone(
    model: str,
    architecture: str,
    path: Path,
    preprocessing: Preprocessing,
    *,
    device: str,
    dimension: int | None = None,
) -> TorchEmbedder:
    """The network that the builder `architecture` makes, with the state dict in `path`, up to its pooled features.

    Raises `PermanentError` (weights_missing) when a weight that reaches the embedding is absent or of another shape.
    """
    network, head = _without_head(architecture)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({name: value for name, value in state.items() if not name.startswith(f"{head}.")})
    except Exception as error:  # the file can be anything, and torch raises from EOFError to AttributeError
        raise unusable(model, path, error) from error
    return embedder_of(model, architecture, network, preprocessing, device=device, dimension=dimension)


def embedder_of(
    model: str,
    architecture: str,
    network: nn.Module,
    preprocessing: Preprocessing,
    *,
    device: str,
    dimension: int | None = None,
) -> TorchEmbedder:
    """The embedder of a network that has its weights and gives its features, pooled or as a map (batch, d, H, W)."""

    def prepare(rgb: Rgb) -> dict[str, torch.Tensor]:
        return {"pixels": preprocessing(rgb)}

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = network(pixels)
        return features.mean((2, 3)) if features.ndim == 4 else features

    recipe = {"architecture": architecture, "pooling": "before the head", "preprocessing": asdict(preprocessing)}
    return TorchEmbedder(
        model,
        network,
        prepare,
        forward,
        fingerprint=fingerprint(recipe, weights_of(network)),
        device=device,
        dimension=dimension,
    )


def _without_head(architecture: str) -> tuple[nn.Module, str]:
    network: nn.Module = torchvision.models.get_model(architecture, weights=None)
    head = next(name for name in HEADS if hasattr(network, name))
    setattr(network, head, nn.Identity())
    if hasattr(network, "avgpool"):  # VGG's and AlexNet's keep a grid of positions, for their classifier
        network.avgpool = nn.AdaptiveAvgPool2d(1)
    return network, head
