"""EfficientNet-B0, ImageNet-1k: the pooled features before the classifier (Tan and Le, 2019).

Input   RGB uint8 (H, W, 3), any size; the middle of it, resized and normalised as torchvision's weights say.
Output  float32 (n, 1280), not normalised.

torchvision's `IMAGENET1K_V1` stands for the blog post's NVIDIA hub model: the same network, from a kept package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.weights import TorchvisionMember, Weights

if TYPE_CHECKING:
    from services.embedding.embedder import Embedder

TITLE = "EfficientNet-B0, ImageNet: pooled features of a convolutional network"
DIMENSION = 1280
WEIGHTS = Weights(
    ("efficientnet_b0.pth", "efficientnet_b0_rwightman-7f5810bc.pth"),
    hub=TorchvisionMember("EfficientNet_B0_Weights.IMAGENET1K_V1"),
)


def load(weights: Path, *, device: str) -> Embedder:
    from torchvision.models import EfficientNet_B0_Weights

    from services.embedding.torchvision_backbone import Preprocessing, load_backbone

    preprocessing = Preprocessing.of(EfficientNet_B0_Weights.IMAGENET1K_V1)
    return load_backbone(
        "efficientnet_b0", "efficientnet_b0", weights, preprocessing, device=device, dimension=DIMENSION
    )
