"""ViT-MAE's masking: how to switch it off, and how to make it a matter of the picture alone.

`ViTMAEModel` hides a random share of the patches (75 %) on every forward pass, also in `eval()`, and reorders those it
keeps: the same picture embedded twice gives two different vectors (transformers issues 20328 and 20431).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

from services.embedding.embedder import Rgb


def all_tokens(network: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    """The encoder's output for whole pictures: (batch, 1 + patches, d), the class token first, patches in order."""
    network.config.mask_ratio = 0.0
    in_order = torch.arange(patch_count(network), dtype=torch.float32, device=pixel_values.device)
    noise = in_order.expand(len(pixel_values), -1)
    tokens: torch.Tensor = network(pixel_values=pixel_values, noise=noise).last_hidden_state
    return tokens


def patch_count(network: Any) -> int:
    """How many patches a picture is cut into: 196 for 224 pixels and patches of 16."""
    count: int = network.embeddings.patch_embeddings.num_patches
    return count


def noise_of(rgb: Rgb, patches: int, seed: int) -> torch.Tensor:
    """The noise that chooses the visible patches of one picture: float32 (patches,), from its content and a seed.

    Never from a random state, which would make a vector depend on the pictures embedded before.
    """
    content = hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).digest()
    generator = np.random.default_rng([seed, *content])
    return torch.from_numpy(generator.random(patches, dtype=np.float32))
