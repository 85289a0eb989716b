"""How much of one frame's content another one does not show, however camera, things and light moved in between."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.keyframes.choosing.signatures import LUMA_HEIGHT_PX, LUMA_WIDTH_PX, TINT_LEVELS, Signature

# Blocks of the luma that are looked for in the other signature, and how far they may have moved between the two.
BLOCK_ROWS, BLOCK_COLUMNS = 3, 4
BLOCK_HEIGHT_PX, BLOCK_WIDTH_PX = LUMA_HEIGHT_PX // BLOCK_ROWS, LUMA_WIDTH_PX // BLOCK_COLUMNS
REACH_Y_PX, REACH_X_PX = 6, 10
# Variance (levels squared) at which a block's texture counts half: far below it is mostly noise and banding.
HALF_WEIGHT_VARIANCE = 20.0
# Variance that quantisation and coding add, and that nothing can explain.
NOISE_VARIANCE = 2.0
# Below this contrast of the luma a picture has no texture to compare, so that colours alone tell it from another; from
# that one on they do not count.
PLAIN_CONTRAST, TEXTURED_CONTRAST = 1.5, 4.0
# A picture in which no block has texture has no content that could be missing.
LEAST_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Box:
    """The part of a signature's luma in which the picture changes: rows [top, bottom), columns [left, right)."""

    top: int = 0
    bottom: int = LUMA_HEIGHT_PX
    left: int = 0
    right: int = LUMA_WIDTH_PX


WHOLE = Box()


def unexplained(a: Signature, b: Signature, box: Box = WHOLE, least: float = 0.0) -> float:
    """Return the share of texture in one signature that the other does not contain, 0..1; the smaller of both ways.

    Each block of one is searched for in the neighbourhood of the same place in the other, by normalised correlation, so
    that neither motion nor a change of brightness or contrast counts. After the idea of motion-compensated NCC in
    Fassold, *Automatic shot boundary detection and dynamic key frames*, 2025. Below `least` the other way is not tried,
    which saves half of the work.
    """
    missing = _missing(a, b, box)
    return missing if missing < least else min(missing, _missing(b, a, box))


def _missing(a: Signature, b: Signature, box: Box) -> float:
    shares, weights = missing_blocks(a, b, box)
    return float((shares * weights).sum() / (weights.sum() + LEAST_WEIGHT))


def new_content(a: Signature, b: Signature, box: Box = WHOLE, least: float = 0.0) -> float:
    """Return the share of content that differs between two pictures, 0..1: texture, or colour where there is none.

    Below `least` the texture is looked for in one way only, as by `unexplained`.
    """
    new = unexplained(a, b, box, least)
    return max(new, _recoloured(a, b))


def _recoloured(a: Signature, b: Signature) -> float:
    """Return how much the colours of two pictures differ as far as either has no texture to compare, 0..1."""
    texture = min(a.luma_contrast, b.luma_contrast)
    weight = min(1.0, (TEXTURED_CONTRAST - texture) / (TEXTURED_CONTRAST - PLAIN_CONTRAST))
    return weight * colour_change(a, b) if weight > 0 else 0.0


def colour_change(a: Signature, b: Signature) -> float:
    """Return how far the colours of two pictures lie apart, place by place, as a share of how strong they are, 0..1."""
    apart = float(cv2.norm(a.chroma, b.chroma, cv2.NORM_L2)) / math.sqrt(a.chroma.size / 2)
    return apart / (apart / 2 + (a.saturation + b.saturation) / 2 + TINT_LEVELS)


def missing_blocks(a: Signature, b: Signature, box: Box = WHOLE) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each block of b the share of its texture that a lacks (0..1) and the weight of its texture (0..1)."""
    area = cv2.copyMakeBorder(_crop(a, box), REACH_Y_PX, REACH_Y_PX, REACH_X_PX, REACH_X_PX, cv2.BORDER_REPLICATE)
    wanted = _crop(b, box)
    shares = np.zeros(BLOCK_ROWS * BLOCK_COLUMNS)
    weights = np.zeros(BLOCK_ROWS * BLOCK_COLUMNS)
    for index in range(BLOCK_ROWS * BLOCK_COLUMNS):
        top, left = index // BLOCK_COLUMNS * BLOCK_HEIGHT_PX, index % BLOCK_COLUMNS * BLOCK_WIDTH_PX
        block = wanted[top : top + BLOCK_HEIGHT_PX, left : left + BLOCK_WIDTH_PX]
        variance = float(cv2.meanStdDev(block)[1][0, 0]) ** 2
        if variance < NOISE_VARIANCE:
            continue
        weights[index] = variance / (variance + HALF_WEIGHT_VARIANCE)
        in_place = area[top + REACH_Y_PX :, left + REACH_X_PX :][:BLOCK_HEIGHT_PX, :BLOCK_WIDTH_PX]
        if cv2.norm(block, in_place, cv2.NORM_L2SQR) <= NOISE_VARIANCE * block.size:
            continue  # nothing but noise has changed
        bottom, right = top + BLOCK_HEIGHT_PX + 2 * REACH_Y_PX, left + BLOCK_WIDTH_PX + 2 * REACH_X_PX
        neighbourhood = area[top:bottom, left:right]
        correlation = cv2.minMaxLoc(cv2.matchTemplate(neighbourhood, block, cv2.TM_CCOEFF_NORMED))[1]
        explained = min(1.0, max(0.0, correlation)) ** 2
        shares[index] = max(0.0, 1.0 - explained - NOISE_VARIANCE / (NOISE_VARIANCE + variance))
    return shares, weights


def _crop(signature: Signature, box: Box) -> NDArray[np.uint8]:
    if box == WHOLE:
        return signature.luma
    cropped = signature.luma[box.top : box.bottom, box.left : box.right]
    resized = cv2.resize(cropped, (LUMA_WIDTH_PX, LUMA_HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)
