"""ViT-MAE base: the mean of all 197 output tokens of the encoder, masking switched off (He et al., 2021).

Input   RGB uint8 (H, W, 3), any size; resized and normalised by the checkpoint's own processor.
Output  float32 (n, 768), not normalised.
Trap    `ViTMAEModel` masks at random also in `eval()`, see `vit_mae.py`. Only the masking differs from the blog post's
        embedding: mean and sum over tokens are the same clustering once the vectors are standardised.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.weights import HuggingFace, Weights

if TYPE_CHECKING:
    import torch

    from services.embedding.embedder import Embedder

TITLE = "ViT-MAE base: mean of a vision transformer's tokens, nothing masked"
DIMENSION = 768
WEIGHTS = Weights(("vit_mae_base", "facebook/vit-mae-base"), hub=HuggingFace("facebook/vit-mae-base"))


def load(weights: Path, *, device: str) -> Embedder:
    from services.embedding.transformers_backbone import load_backbone
    from services.embedding.vit_mae import all_tokens

    backbone = load_backbone("vit_mae_base", weights, "ViTMAEModel")

    def forward(pixel_values: torch.Tensor) -> torch.Tensor:
        return all_tokens(backbone.network, pixel_values).mean(1)

    return backbone.embedder(forward, pooling="mean of all tokens", device=device, dimension=DIMENSION)
