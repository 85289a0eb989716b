"""Gradients and colours of a picture as one vector: what the model `hog_color` computes.

Shape: histograms of oriented gradients (Dalal and Triggs, 2005) of the picture squeezed to 64 x 64, which forgets
lighting. Colour: hue (each pixel counted by its saturation, since grey has none), saturation and value of the whole
picture and of its quarters (Lazebnik et al., 2006), under a square root, which makes distances Hellinger's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.embedding.embedder import Rgb, Vectors, check_picture
from services.embedding.fingerprint import fingerprint

#: 324 numbers for shape, 80 for colour.
DIMENSION = 404
#: Raise it with every change that changes a vector.
VERSION = 1

SIDE_PX = 64
CELL_PX = 16
ORIENTATIONS = 9
CLIP = 0.2  # Dalal and Triggs: no gradient, however strong, decides alone
PYRAMID = (1, 2)
HSV_BINS = (8, 4, 4)
#: The two norms' relation where vectors are compared unscaled: best of 0.5 and 1 on Caltech-101 photos.
COLOR_WEIGHT = 0.5

Floats = npt.NDArray[np.float32]


class HogColor:
    """The embedder; see `services.embedding.embedder.Embedder`."""

    dimension = DIMENSION
    batch_size = 32
    fingerprint = fingerprint({"model": "hog_color", "version": VERSION})

    def embed_batch(self, pictures: Sequence[Rgb]) -> Vectors:
        vectors = np.empty((len(pictures), DIMENSION), np.float32)
        for vector, picture in zip(vectors, pictures, strict=True):
            check_picture(picture)
            vector[:] = _embed(picture)
        return vectors


def _embed(rgb: Rgb) -> Floats:
    import cv2

    small = cv2.resize(rgb, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    shape = _oriented_gradients(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32))
    color = _color_pyramid(cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(np.int64))
    return np.concatenate([_unit(shape), COLOR_WEIGHT * _unit(color)])


def _oriented_gradients(gray: Floats) -> Floats:
    """Histograms of gradient directions per cell, normalised over blocks of 2 x 2 cells. gray: (64, 64), 0 to 255."""
    dy, dx = np.gradient(np.sqrt(gray))
    strength = np.hypot(dx, dy)
    # Directions without sign, each pixel shared between the two nearest bins.
    position = np.arctan2(dy, dx) % np.pi * (ORIENTATIONS / np.pi) - 0.5
    lower = np.floor(position)
    share = position - lower
    rows, columns = np.indices(gray.shape) // CELL_PX
    cells = np.zeros((SIDE_PX // CELL_PX, SIDE_PX // CELL_PX, ORIENTATIONS), np.float32)
    for orientation, weight in ((lower, 1 - share), (lower + 1, share)):
        np.add.at(cells, (rows, columns, orientation.astype(int) % ORIENTATIONS), strength * weight)
    blocks: Floats = np.concatenate([cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]], axis=-1)
    blocks /= np.linalg.norm(blocks, axis=-1, keepdims=True) + 1  # a flat block stays near zero
    blocks = np.minimum(blocks, CLIP)
    blocks /= np.linalg.norm(blocks, axis=-1, keepdims=True) + 1e-3
    return blocks.ravel()


def _color_pyramid(hsv: npt.NDArray[np.int64]) -> Floats:
    """Square roots of colour histograms of the tiles of each level, a level's weight shared by its tiles.

    hsv: OpenCV's (64, 64, 3), hue 0 to 179.
    """
    histograms = []
    for tiles in PYRAMID:
        for strip in np.split(hsv, tiles):
            for tile in np.split(strip, tiles, axis=1):
                hue, saturation, value = tile.reshape(-1, 3).T
                hue_bins, saturation_bins, value_bins = HSV_BINS
                counts = [
                    np.bincount(hue * hue_bins // 180, saturation / 255, minlength=hue_bins),
                    np.bincount(saturation * saturation_bins // 256, minlength=saturation_bins),
                    np.bincount(value * value_bins // 256, minlength=value_bins),
                ]
                histograms.append(np.sqrt(np.concatenate(counts) / hue.size) / tiles)
    return np.concatenate(histograms).astype(np.float32)


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector
