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
    """A frame that may become a key frame.

    step: how much it differs from its neighbours, in levels. stays_s: how long it is shown.
    """

    frame: Frame
    signature: Signature
    step: float
    stays_s: float

    @property
    def motion(self) -> float:
        """The step per level of contrast."""
        return (self.step + 1.0) / (self.signature.contrast + 1.0)

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

    def feed(self, frame: Frame, signature: Signature) -> list[Candidate]:
        """Take in a frame; return the candidates that have become certain."""
        step = difference(self._signature, signature) if self._signature else 0.0
        certain = self._consider(step, frame.time_s)
        if self._signature and step > max(ABRUPT_LEVELS, ABRUPT_SHARE * self._signature.contrast):
            certain += self._take_best()
        self._frame, self._signature, self._step = frame, signature, step
        return certain

    def finish(self) -> list[Candidate]:
        """Return the last candidates."""
        certain = self._consider(0.0, self._frame.end_s) if self._frame else []
        return certain + self._take_best()

    def _consider(self, next_step: float, next_s: float) -> list[Candidate]:
        """Compare the frame before with the best of its time, now that it is known how the next one differs."""
        frame, signature = self._frame, self._signature
        if frame is None or signature is None:
            return []
        certain = self._take_best() if frame.time_s >= self._ends_s else []
        candidate = Candidate(frame, signature, max(self._step, next_step), next_s - frame.time_s)
        if self._best is None:
            self._best, self._ends_s = candidate, frame.time_s + CANDIDATE_EVERY_S
        else:
            self._best = min(self._best, candidate, key=lambda one: (not one.is_usable, one.motion))
        return certain

    def _take_best(self) -> list[Candidate]:
        best, self._best = self._best, None
        return [best] if best else []


def sharpness(frame: Frame) -> float:
    """Return the variance of the Laplacian of the luma at about 320 pixels of width: low when blurred."""
    luma = luma_samples(frame.picture)
    factor = max(1, luma.shape[1] // SHARPNESS_WIDTH_PX)
    rows, columns = luma.shape[0] // factor, luma.shape[1] // factor
    small = cv2.resize(luma[: rows * factor, : columns * factor], (columns, rows), interpolation=cv2.INTER_AREA)
    return float(cv2.meanStdDev(cv2.Laplacian(small, cv2.CV_16S))[1][0, 0]) ** 2
