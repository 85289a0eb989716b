"""DINOv2 small: the class token of a self-supervised vision transformer (Oquab et al., 2023).

Input   RGB uint8 (H, W, 3), any size; the middle of it, resized and normalised by the checkpoint's own processor.
Output  float32 (n, 384), not normalised.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.weights import HuggingFace, Weights

if TYPE_CHECKING:
    import torch

    from services.embedding.embedder import Embedder

TITLE = "DINOv2 small: class token of a self-supervised vision transformer"
DIMENSION = 384
WEIGHTS = Weights(("dinov2_small", "facebook/dinov2-small"), hub=HuggingFace("facebook/dinov2-small"))


def load(weights: Path, *, device: str) -> Embedder:
    from services.embedding.transformers_backbone import load_backbone

    backbone = load_backbone("dinov2_small", weights, "Dinov2Model")

    def forward(pixel_values: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = backbone.network(pixel_values=pixel_values).last_hidden_state
        return tokens[:, 0]

    return backbone.embedder(forward, pooling="class token", device=device, dimension=DIMENSION)
