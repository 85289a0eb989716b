"""Finds where one picture turns into another little by little."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from services.keyframes.fades import Gap
from services.keyframes.history import History, Sample
from services.keyframes.novelty import unexplained
from services.keyframes.signatures import BLANK_CONTRAST, Signature, difference

# How long a dissolve may last; each length is tried, the shortest first.
WINDOWS_S = (0.3, 0.45, 0.65, 0.95, 1.35)
# How often it is looked for, and how many frames between the two ends are looked at.
RATE_HZ = 12.0
INNER = 5
# The two ends must differ by this many levels and this share of their contrast.
LEAST_DIFFERENCE, LEAST_DIFFERENCE_OF_CONTRAST = 1.5, 0.15
# During a dissolve every frame is a mixture of both ends: this share of it at most is something else.
LARGEST_RESIDUAL = 0.1
# The mixture goes one way, without a jump.
LARGEST_RETURN, LARGEST_JUMP = 0.08, 0.5


def find_dissolve(history: History, at: int, least_novelty: float, not_before: int) -> Gap | None:
    """Return the dissolve that has just ended at a place of the history, if one has.

    least_novelty: share of content that differs between its ends. not_before: the frame where it may begin at the
    earliest, that of the last cut.
    """
    end = history[at]
    start = at
    for window_s in WINDOWS_S:
        while start > 0 and end.time_s - history[start].time_s < window_s:
            start -= 1
        if end.time_s - history[start].time_s < window_s or history[start].index < not_before:
            return None
        if at - start > INNER // 2:
            gap = _dissolve([history[place] for place in _places(start, at)], history, least_novelty)
            if gap:
                return gap
    return None


def _places(start: int, end: int) -> list[int]:
    return [start + round((end - start) * part / (INNER + 1)) for part in range(INNER + 2)]


def _dissolve(samples: list[Sample], history: History, least_novelty: float) -> Gap | None:
    first, last = samples[0], samples[-1]
    contrast = min(first.contrast, last.contrast)
    least = max(LEAST_DIFFERENCE, LEAST_DIFFERENCE_OF_CONTRAST * contrast)
    if contrast < 2 * BLANK_CONTRAST or difference(first.signature, last.signature) < least:
        return None
    origin = _blurred(first.signature)
    way = _blurred(last.signature) - origin
    length = float((way * way).sum())
    shares = [0.0]
    for sample in samples[1:-1]:
        moved = _blurred(sample.signature) - origin
        share = float((moved * way).sum()) / length
        rest = moved - share * way
        if float((rest * rest).sum()) > LARGEST_RESIDUAL * length:
            return None
        shares.append(share)
    shares.append(1.0)
    if any(not -LARGEST_RETURN <= after - before <= LARGEST_JUMP for before, after in pairwise(shares)):
        return None
    novelty = unexplained(first.signature, last.signature, history.box)
    if novelty < least_novelty:
        return None
    if MID < 1:
        m = min(samples[1:-1], key=lambda one: abs(shares[samples.index(one)] - 0.5)).signature
        if (
            max(unexplained(first.signature, m, history.box), unexplained(m, last.signature, history.box))
            > MID * novelty
        ):
            return None
    middle = np.interp(0.5, np.maximum.accumulate(shares), [sample.index for sample in samples])
    return Gap(first.index + 1, int(middle), last.index)


def _blurred(signature: Signature) -> NDArray[np.float32]:
    # Coarse, so that slow motion during the dissolve stays small against the dissolve itself.
    rows, columns = signature.values.shape
    return cv2.resize(
        signature.values.astype(np.float32), (columns // BLUR, rows // BLUR), interpolation=cv2.INTER_AREA
    )


BLUR = 2
MID = 2.0
