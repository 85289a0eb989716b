"""The last seconds of a video as the search for transitions sees them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.keyframes.choosing.layout import Layout
from services.keyframes.choosing.novelty import WHOLE, Box
from services.keyframes.choosing.signatures import Signature, contrast, difference

# The layout changes slowly: looking at it a few times a second suffices.
LAYOUT_EVERY_S = 0.32


@dataclass(slots=True)
class Sample:
    """A frame as it is remembered.

    step: difference to the frame before, in levels of 255. contrast: that of the signature where the layout lets the
    picture change.
    """

    index: int
    time_s: float
    signature: Signature
    step: float
    contrast: float
    _coarse: NDArray[np.float32] | None = None

    @property
    def coarse(self) -> NDArray[np.float32]:
        """The signature at half its size, float32 (27, 32): slow motion is small in it."""
        if self._coarse is None:
            rows, columns = self.signature.values.shape
            half = cv2.resize(self.signature.values, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
            self._coarse = half.astype(np.float32)
        return self._coarse


class History:
    """The samples of the last `length_s` seconds, at least `least_frames` of them, oldest first."""

    def __init__(self, length_s: float, least_frames: int) -> None:
        self._length_s = length_s
        self._least_frames = least_frames
        self._samples: list[Sample] = []
        self._times_s: list[float] = []
        self._layout = Layout()
        self._next_layout_s = 0.0

    @property
    def box(self) -> Box:
        return self._layout.box

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> Sample:
        return self._samples[place]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def feed(self, index: int, time_s: float, signature: Signature) -> None:
        """Remember a frame and forget what is too old."""
        samples = self._samples
        if time_s >= self._next_layout_s:
            self._next_layout_s = time_s + LAYOUT_EVERY_S
            box = self._layout.box
            self._layout.feed(time_s, signature)
            if self._layout.box != box:
                for sample in samples:
                    sample.contrast = contrast_within(self.box, sample.signature)
        step = difference(samples[-1].signature, signature) if samples else 0.0
        samples.append(Sample(index, time_s, signature, step, contrast_within(self.box, signature)))
        self._times_s.append(time_s)
        outdated = min(self.place_at(time_s - self._length_s), max(0, len(samples) - self._least_frames))
        del samples[:outdated], self._times_s[:outdated]

    def place_at(self, time_s: float) -> int:
        """Return the place of the first sample at this time or later."""
        return bisect_left(self._times_s, time_s)

    def since(self, start_s: float) -> list[Sample]:
        """Return the samples from this time on."""
        return self._samples[self.place_at(start_s) :]


def contrast_within(box: Box, signature: Signature) -> float:
    """Return the contrast of a signature when only the luma within the box counts, in levels of 255."""
    if box == WHOLE:
        return signature.contrast
    luma = signature.luma[box.top : box.bottom, box.left : box.right]
    return contrast(float(cv2.meanStdDev(luma)[1][0, 0]), signature.saturation)
