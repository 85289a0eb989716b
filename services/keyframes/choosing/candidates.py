"""Keeps of every fraction of a second the one frame that could become a key frame: calm, whole and not blank."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from services.keyframes.choosing.signatures import BLANK_CONTRAST, Signature, difference, luma_samples
from services.keyframes.reading.frames import Frame

# One candidate at most is kept of so many seconds. It bounds the memory, for each holds a decoded picture.
CANDIDATE_EVERY_S = 0.2
# A step of so many levels and this share of the contrast begins a new candidate, so that the shortest shot has one.
ABRUPT_LEVELS, ABRUPT_SHARE = 4.0, 0.15
# Width at which sharpness is measured: detail finer than this is grain and coding noise as often as not.
SHARPNESS_WIDTH_PX = 320


@dataclass(frozen=True, slots=True)
class Candidate:
    """A frame that may become a key frame. unrest: how much it differs from its neighbours, per level of contrast."""

    frame: Frame
    signature: Signature
    unrest: float

    @property
    def is_usable(self) -> bool:
        return self.signature.contrast >= BLANK_CONTRAST and not self.frame.is_corrupt


class CandidateSampler:
    """Fed all frames in order, yields the candidates among them."""

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._signature: Signature | None = None
        self._step = 0.0
        self._best: Candidate | None = None
        self._ends_s = 0.0

    def feed(self, frame: Frame, signature: Signature) -> Candidate | None:
        """Take in a frame; return a candidate when one has become certain."""
        step = difference(self._signature, signature) if self._signature else 0.0
        done = self._consider(step)
        if self._signature and step > max(ABRUPT_LEVELS, ABRUPT_SHARE * self._signature.contrast):
            done, self._best = self._best, None
        self._frame, self._signature, self._step = frame, signature, step
        return done

    def finish(self) -> Candidate | None:
        """Return the last candidate; None if the frame before it was the last."""
        self._consider(0.0)
        return self._best

    def _consider(self, next_step: float) -> Candidate | None:
        frame, signature = self._frame, self._signature
        if frame is None or signature is None:
            return None
        done = None
        if self._best and frame.time_s >= self._ends_s:
            done, self._best = self._best, None
        candidate = Candidate(frame, signature, (max(self._step, next_step) + 1.0) / (signature.contrast + 1.0))
        if self._best is None:
            self._best, self._ends_s = candidate, frame.time_s + CANDIDATE_EVERY_S
        else:
            self._best = min(self._best, candidate, key=lambda one: (not one.is_usable, one.unrest))
        return done


def sharpness(frame: Frame) -> float:
    """Return the variance of the Laplacian of the luma at about 320 pixels of width: low when blurred."""
    luma = luma_samples(frame.picture)
    factor = max(1, luma.shape[1] // SHARPNESS_WIDTH_PX)
    rows, columns = luma.shape[0] // factor, luma.shape[1] // factor
    small = cv2.resize(luma[: rows * factor, : columns * factor], (columns, rows), interpolation=cv2.INTER_AREA)
    return float(cv2.meanStdDev(cv2.Laplacian(small, cv2.CV_16S))[1][0, 0]) ** 2
