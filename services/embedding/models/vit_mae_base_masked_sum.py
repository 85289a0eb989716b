"""ViT-MAE base as in *Clustering Image Embeddings*: 75 % of the picture masked, the 50 visible tokens summed.

Input   RGB uint8 (H, W, 3), any size; resized and normalised by the checkpoint's own processor.
Output  float32 (n, 768), not normalised.
Trap    The blog post takes the 50 tokens for 50 attention heads; they are the class token and 49 of the 196 patches.
        Which ones is drawn here from a seed and the picture's own SHA-256, so that the post can be reproduced and
        compared. To find out what is in videos, take `vit_mae_base`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.weights import HuggingFace, Weights

if TYPE_CHECKING:
    import torch

    from services.embedding.embedder import Embedder, Rgb

TITLE = "ViT-MAE base: the blog post's sum of tokens, 75 % masked (to compare with)"
DIMENSION = 768
WEIGHTS = Weights(("vit_mae_base", "facebook/vit-mae-base"), hub=HuggingFace("facebook/vit-mae-base"))
SEED = 0
MASK_RATIO = 0.75


def load(weights: Path, *, device: str) -> Embedder:
    from services.embedding.transformers_backbone import load_backbone
    from services.embedding.vit_mae import noise_of, patch_count

    backbone = load_backbone("vit_mae_base_masked_sum", weights, "ViTMAEModel")
    network = backbone.network
    network.config.mask_ratio = MASK_RATIO
    patches = patch_count(network)

    def prepare(rgb: Rgb) -> dict[str, torch.Tensor]:
        return {"pixel_values": backbone.pixels(rgb), "noise": noise_of(rgb, patches, SEED)}

    def forward(pixel_values: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = network(pixel_values=pixel_values, noise=noise).last_hidden_state
        return tokens.sum(1)

    pooling = f"sum of the tokens left by masking {MASK_RATIO} with seed {SEED}"
    return backbone.embedder(forward, pooling=pooling, device=device, dimension=DIMENSION, prepare=prepare)
