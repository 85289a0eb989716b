"""A person's own model loads from a setting alone, and a setting that does not fit is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import transformers

from services.embedding.loading import load_embedder
from shared import catalog
from shared.errors import ErrorKind, PermanentError

PREPROCESSING = {"resize_px": 40, "interpolation": "bilinear", "crop_px": 32, "mean": 0.5, "std": 0.5}


@dataclass(frozen=True)
class Own:
    library: str
    weights: str
    architecture: str | None = None
    pooling: str = "mean"
    preprocessing: Mapping[str, Any] | None = None


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory, vit_folder):
    """Small seeded random networks of many kinds in one folder."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(resnet, folder / "mine.pth")
    torch.save(resnet, folder / "resnet18-f37072fd.pth")  # the name of torchvision's own
    (folder / "vit").symlink_to(vit_folder)
    small = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
    networks = {
        "mae": transformers.ViTMAEModel(transformers.ViTMAEConfig(**small, image_size=64)),
        "vit_with_pooler": transformers.ViTModel(transformers.ViTConfig(**small, image_size=64)),
        "resnet": transformers.ResNetModel(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        ),
        "clip": transformers.CLIPModel(
            transformers.CLIPConfig(
                vision_config={**small, "image_size": 64},
                text_config={**small, "vocab_size": 99},
                projection_dim=24,
            )
        ),
    }
    processor = transformers.ViTImageProcessor(size={"height": 64, "width": 64})
    for name, network in networks.items():
        network.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


def load_own(own, weights_folder, *, hub=False):
    [model] = [model for model in catalog.models({own.weights: asdict(own)}).values() if model.own]
    return load_embedder(model, weights_folder, hub=hub, device="cpu")


@pytest.fixture
def load(weights_folder):
    return lambda own: load_own(own, weights_folder)


@pytest.mark.parametrize(
    ("own", "dimension"),
    [
        (Own("transformers", "vit", pooling="class_token"), 32),
        (Own("transformers", "vit", pooling="mean"), 32),
        (Own("transformers", "vit_with_pooler", pooling="pooler"), 32),
        (Own("transformers", "mae", pooling="class_token"), 32),
        (Own("transformers", "mae", pooling="mean"), 32),
        (Own("transformers", "resnet", pooling="mean"), 16),
        (Own("transformers", "resnet", pooling="pooler"), 16),
        (Own("transformers", "clip", pooling="class_token"), 32),
        (Own("transformers", "clip", pooling="pooler"), 24),
        (Own("torchvision", "mine.pth", "resnet18", preprocessing=PREPROCESSING), 512),
        (Own("torchvision", "resnet18-f37072fd.pth", "resnet18"), 512),
        (Own("torchvision", "ResNet18_Weights.IMAGENET1K_V1"), 512),
    ],
    ids=lambda value: f"{value.weights}-{value.pooling}" if isinstance(value, Own) else "",
)
def test_a_setting_is_enough(load, own, dimension, picture):
    embedder = load(own)
    assert embedder.dimension == dimension
    other = picture[::-1, ::-1]
    alone, together = embedder.embed_batch([picture]), embedder.embed_batch([other, picture])
    assert np.isfinite(alone).all()
    assert np.array_equal(alone[0], together[1])
    assert not np.array_equal(together[0], together[1])
    assert load(own).fingerprint == embedder.fingerprint


def test_the_way_of_pooling_is_part_of_the_fingerprint(load):
    poolings = ("class_token", "mean")
    fingerprints = {load(Own("transformers", "vit", pooling=pooling)).fingerprint for pooling in poolings}
    assert len(fingerprints) == 2


def test_an_absolute_path_is_taken(weights_folder):
    own = Own("transformers", str(weights_folder / "vit"))
    assert load_own(own, None, hub=True).dimension == 32


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (Own("transformers", "resnet", pooling="class_token"), "ResNetModel gives nothing"),
        (Own("transformers", "mae", pooling="pooler"), "ViTMAEModel gives nothing"),
        (Own("torchvision", "mine.pth"), "`architecture`"),
        (Own("torchvision", "mine.pth", "no_such_net"), "`architecture`"),
        (Own("torchvision", "mine.pth", "fasterrcnn_resnet50_fpn"), "`architecture`"),
        (Own("torchvision", "mine.pth", "resnet18"), "needs `preprocessing`"),
        (Own("torchvision", "mine.pth", "resnet18", preprocessing={"size": 1}), "`preprocessing` is wrong"),
        (Own("torchvision", "mine.pth", "resnet18", "class_token"), "`pooling` of torchvision's resnet18 is mean"),
        (Own("torchvision", "mine.pth", "vit_b_16", "mean"), "`pooling` of torchvision's vit_b_16 is class_token"),
    ],
)
def test_a_setting_that_does_not_fit_is_said(load, own, reason):
    with pytest.raises(PermanentError) as caught:
        load(own)
    assert caught.value.kind is ErrorKind.BAD_PARAMETERS
    assert reason in caught.value.message
    assert own.weights in caught.value.message
    assert "REELMAP_OWN_MODELS" in caught.value.message


@pytest.mark.parametrize(
    "own",
    [
        Own("transformers", "nobody/nothing"),
        Own("transformers", "/nowhere/at/all"),
        Own("transformers", "vit", pooling="pooler"),  # the folder has no pooler, and none is made up
        Own("torchvision", "absent.pth", "resnet18", preprocessing=PREPROCESSING),
        Own("torchvision", "mine.pth", "resnet34", preprocessing=PREPROCESSING),
        Own("torchvision", "ResNet50_Weights.IMAGENET1K_V2"),
        Own("torchvision", "ResNet50_Weights.NO_SUCH", "resnet50", preprocessing=PREPROCESSING),
    ],
    ids=lambda own: own.weights,
)
def test_missing_weights_are_never_made_up(load, own):
    with pytest.raises(PermanentError) as caught:
        load(own)
    assert caught.value.kind is ErrorKind.WEIGHTS_MISSING
    assert own.weights in caught.value.message


@pytest.mark.data
def test_really_trained_networks_load_and_masking_is_off(data_dir):
    pictures = [np.asarray(picture) for picture in _photos(data_dir / "images", 4)]

    def embed(own):
        return load_own(own, data_dir / "weights").embed_batch(pictures)

    plain = embed(Own("transformers", "vit_tiny", pooling="class_token"))
    unmasked = embed(Own("transformers", "vit_tiny_mae_layout", pooling="class_token"))
    assert np.abs(plain - unmasked).max() <= 1e-4
    setting = {"resize_px": 256, "interpolation": "bilinear", "crop_px": 224, "mean": 0.5, "std": 0.5}
    assert embed(Own("torchvision", "mobilenet_v2.pth", "mobilenet_v2", preprocessing=setting)).shape == (4, 1280)


def _photos(folder, n):
    from PIL import Image

    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*/*.jpg"))[:n]]
