"""The baseline without weights tells shapes and colours apart and forgives light and small crops."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from services.embedding.models import hog_color

SHAPE = slice(0, 324)
COLOR = slice(324, 404)


@pytest.fixture
def embed():
    embedder = hog_color.load(None, device="cpu")
    return lambda *pictures: embedder.embed_batch(pictures)


def distance(a, b) -> float:
    return float(np.linalg.norm(a - b))


def scene(seed: int):
    """Coloured blobs, uint8 (180, 240, 3)."""
    coarse = np.random.default_rng(seed).integers(30, 200, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((240, 180), Image.Resampling.BICUBIC))


def test_the_two_parts_have_their_lengths(embed):
    (vector,) = embed(scene(0))
    assert np.linalg.norm(vector[SHAPE]) == pytest.approx(1)
    assert np.linalg.norm(vector[COLOR]) == pytest.approx(0.5)


def test_light_does_not_change_the_shape(embed):
    normal = scene(0)
    a, b = embed(normal, (normal * 0.7).astype(np.uint8))
    c = embed(scene(1))[0]
    assert distance(a[SHAPE], b[SHAPE]) < 0.1 * distance(a[SHAPE], c[SHAPE])


def test_a_crop_in_another_light_is_nearer_than_another_scene(embed):
    seeds = range(12)
    originals = embed(*[scene(seed) for seed in seeds])
    changed = embed(*[(scene(seed)[10:170, 14:226] * 1.2).astype(np.uint8) for seed in seeds])
    nearest = np.linalg.norm(changed[:, None] - originals[None], axis=2).argmin(axis=1)
    assert nearest.tolist() == list(seeds)


def test_colours_are_told_apart_where_shapes_are_not(embed):
    red, blue = (np.full((20, 20, 3), color, np.uint8) for color in ([200, 0, 0], [0, 0, 200]))
    a, b = embed(red, blue)
    assert distance(a[SHAPE], b[SHAPE]) == 0
    assert distance(a[COLOR], b[COLOR]) > 0.2


def test_red_and_blue_are_not_swapped(embed):
    (red,) = embed(np.full((20, 20, 3), [255, 0, 0], np.uint8))
    hues = red[COLOR][:8]
    assert hues.argmax() == 0  # OpenCV's hue 0 of 180; blue would be 120, in the sixth of the eight bins


def test_where_things_are_counts(embed):
    half = np.zeros((64, 64, 3), np.uint8)
    half[:32] = 255
    a, b = embed(half, half[::-1])
    assert distance(a, b) > 0.2
