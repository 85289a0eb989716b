"""The packaged network sees what photos show: with its own classifier it names them, and with a wrong input or padding
it names fewer.

`mean_log_probability` is that of the right classes of ImageNet. It moves smoothly, so that a small slip shows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from torch import nn

from services.embedding.efficientnet_lite import SamePadded, load_efficientnet_lite0
from services.embedding.loading import load_embedder
from services.embedding.models.efficientnet_lite0 import WEIGHTS
from services.embedding.pictures import read_picture
from services.embedding.torchvision_backbone import Preprocessing, embedder_of
from shared import catalog

#: Classes of Caltech-101 → those of ImageNet that a photo of it may show.
CLASSES = {
    "binocular": [447],
    "crab": [118, 119, 120, 121, 125],
    "dalmatian": [251],
    "elephant": [101, 385, 386],
    "flamingo": [130],
    "grand_piano": [579],
    "lamp": [619, 846],
    "nautilus": [117],
    "scorpion": [71],
    "starfish": [327],
    "tick": [78],
}
PHOTOS_EACH = 4
#: Measured: -0.45; with symmetric padding -0.55, with ImageNet's mean and deviation -0.81.
LEAST = -0.49


def photos_of(data_dir: Path) -> list[tuple[np.ndarray, list[int]]]:
    return [
        (read_picture(path.read_bytes()), classes)
        for name, classes in CLASSES.items()
        for path in sorted((data_dir / "images" / name).glob("*.jpg"))[:PHOTOS_EACH]
    ]


def log_probabilities(X: np.ndarray) -> torch.Tensor:
    """What the network's own classifier makes of its embeddings: (n, 1000)."""
    state = torch.load(WEIGHTS.packaged.path(), weights_only=True)
    return (torch.from_numpy(X) @ state["_fc.weight"].T + state["_fc.bias"]).log_softmax(1)


def mean_log_probability(embedder, photos) -> float:
    rows = log_probabilities(embedder.embed_batch([rgb for rgb, _ in photos]))
    return float(np.mean([row[classes].logsumexp(0) for row, (_, classes) in zip(rows, photos, strict=True)]))


def changed(preprocessing: Preprocessing | None = None, padding: Callable[[SamePadded], nn.Module] | None = None):
    """The embedder as it would be after a slip."""
    network = load_efficientnet_lite0("slip", WEIGHTS.packaged.path())
    network.classifier = nn.Sequential(nn.Identity())
    for layer in network.modules():
        if padding and isinstance(layer, SamePadded):
            layer._pad = padding(layer)
    right = Preprocessing(256, 224, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3)
    return embedder_of("slip", "efficientnet_lite0", network, preprocessing or right, device="cpu")


@pytest.fixture(scope="module")
def embedder():
    return load_embedder(catalog.models({})["efficientnet_lite0"], None, hub=False, device="cpu")


def test_it_names_photographs_that_everybody_has(embedder):
    cat, cup = skimage.data.chelsea(), skimage.data.coffee()
    named = log_probabilities(embedder.embed_batch([cat, cup])).argmax(1).tolist()
    assert named[0] in (281, 282, 285)  # tabby, tiger cat, Egyptian cat
    assert named[1] in (504, 967, 968)  # coffee mug, espresso, cup


@pytest.mark.data
def test_it_names_labelled_photos_and_a_slip_in_input_or_padding_would_show(embedder, data_dir):
    photos = photos_of(data_dir)
    right = mean_log_probability(embedder, photos)
    assert right > LEAST
    slips = {
        "ImageNet's mean and deviation": changed(
            Preprocessing(256, 224, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        ),
        "symmetric padding": changed(padding=lambda layer: nn.ZeroPad2d(layer.kernel_size[0] // 2)),
    }
    for slip, wrong in slips.items():
        assert mean_log_probability(wrong, photos) < LEAST, slip


def test_loading_is_exactly_as_the_slips_start_from(embedder):
    picture = skimage.data.chelsea()
    assert np.array_equal(changed().embed_batch([picture]), embedder.embed_batch([picture]))
