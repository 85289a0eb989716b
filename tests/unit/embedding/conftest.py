"""What the tests of several embedding modules share: small pictures, small networks, one thread."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Threads that wait for each other on cores that other tests use make small networks ten times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def picture():
    """Smooth coloured noise, uint8 (90, 120, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC))


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory):
    """A transformers folder with a seeded random ViT of 32 numbers, without the pooler that `ViTModel` has."""
    import transformers

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=32, image_size=64
    )
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder
