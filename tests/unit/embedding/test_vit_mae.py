"""ViT-MAE sees whole pictures, or masks that are the picture's own."""

from __future__ import annotations

import pytest
import torch
import transformers

from services.embedding.vit_mae import all_tokens, noise_of, patch_count


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(
        hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=32, image_size=64
    )
    return transformers.ViTMAEModel(config).eval()


def test_as_the_library_runs_it_the_same_picture_gives_different_tokens(network):
    pixels = torch.rand(1, 3, 64, 64)
    network.config.mask_ratio = 0.75
    with torch.inference_mode():
        once, again = (network(pixels).last_hidden_state for _ in range(2))
    assert once.shape == (1, 5, 32)  # the class token and 4 of 16 patches
    assert not torch.allclose(once, again)


def test_all_tokens_are_the_class_token_and_every_patch_in_order_each_time(network):
    pixels = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        once, again = (all_tokens(network, pixels) for _ in range(2))
        embedded, _, restore = network.embeddings(pixels, noise=torch.arange(16.0).expand(2, -1))
    assert patch_count(network) == 16
    assert once.shape == (2, 17, 32)
    assert torch.equal(once, again)
    assert restore.tolist() == [list(range(16))] * 2
    assert embedded.shape == (2, 17, 32)


def test_noise_is_the_pictures_own(picture):
    noise = noise_of(picture, 196, seed=0)
    assert noise.shape == (196,)
    assert noise.dtype == torch.float32
    assert len(noise.unique()) == 196
    assert torch.equal(noise, noise_of(picture.copy(), 196, seed=0))
    assert not torch.equal(noise, noise_of(picture, 196, seed=1))
    assert not torch.equal(noise, noise_of(picture.transpose(1, 0, 2), 196, seed=0))
    other = picture.copy()
    other[0, 0, 0] ^= 1
    assert not torch.equal(noise, noise_of(other, 196, seed=0))
