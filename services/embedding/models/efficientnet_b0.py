"""EfficientNet-B0, ImageNet-1k: the pooled features before the classifier (Tan and Le, 2019).

Input   RGB uint8 (H, W, 3), any size; the middle of it, resized and normalised as torchvision's weights say.
Output  float32 (n, 1280), not normalised.

torchvision's `IMAGENET1K_V1` stands for the blog post's NVIDIA hub model: the same network, from a kept package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.embedding.embedder import Embedder


TITLE = "EfficientNet-B0, ImageNet: pooled features of a convolutional network"
DIMENSION = 1280
WEIGHTS = ("efficientnet_b0.pth", "efficientnet_b0_rwightman-7f5810bc.pth")
HUB = "torchvision EfficientNet_B0_Weights.IMAGENET1K_V1"


def load(weights_dir: Path | None, *, hub: bool, device: str) -> Embedder:
    from torchvision.models import EfficientNet_B0_Weights

    from services.embedding.torchvision_backbone import Preprocessing, load_backbone
    from services.embedding.weights import TorchFile, find_weights

    pretrained = EfficientNet_B0_Weights.IMAGENET1K_V1
    path = find_weights("efficientnet_b0", WEIGHTS, weights_dir, TorchFile(pretrained.url), hub=hub)
    preprocessing = Preprocessing.of(pretrained)
    return load_backbone("efficientnet_b0", "efficientnet_b0", path, preprocessing, device=device, dimension=DIMENSION)
