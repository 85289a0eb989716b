"""CLIP ViT-B/32: the picture's side of the space that pictures and words share (Radford et al., 2021).

Input   RGB uint8 (H, W, 3), any size; the middle of it, resized and normalised by the checkpoint's own processor.
Output  float32 (n, 512), not normalised; CLIP compares by cosine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.weights import HuggingFace, Weights

if TYPE_CHECKING:
    import torch

    from services.embedding.embedder import Embedder

TITLE = "CLIP ViT-B/32: picture features from the space shared with words"
DIMENSION = 512
WEIGHTS = Weights(("clip_vit_b32", "openai/clip-vit-base-patch32"), hub=HuggingFace("openai/clip-vit-base-patch32"))


def load(weights: Path, *, device: str) -> Embedder:
    from services.embedding.transformers_backbone import load_backbone

    backbone = load_backbone("clip_vit_b32", weights, "CLIPVisionModelWithProjection")

    def forward(pixel_values: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = backbone.network(pixel_values=pixel_values).image_embeds
        return features

    return backbone.embedder(forward, pooling="image features", device=device, dimension=DIMENSION)
