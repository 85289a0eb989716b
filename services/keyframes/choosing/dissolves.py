"""Finds where one picture turns into another little by little: dissolves, and wipes that move across the picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.keyframes.choosing.fades import Gap
from services.keyframes.choosing.history import History, Sample
from services.keyframes.choosing.novelty import new_content
from services.keyframes.choosing.signatures import BLANK_CONTRAST, difference

# How long a transition may last; each length is tried, the shortest first.
WINDOWS_S = (0.3, 0.45, 0.65, 0.95, 1.35)
# How often one is looked for, and how many frames between its two ends are looked at.
RATE_HZ = 12.0
INNER = 5
# The two ends must differ by this many levels and this share of their contrast.
LEAST_DIFFERENCE, LEAST_DIFFERENCE_OF_CONTRAST = 1.5, 0.25
# In a dissolve every frame is a mixture of both ends: at most this share of it (of the squares) is something else.
LARGEST_RESIDUAL = 0.1
# In a wipe every pixel is of one end or the other: this share of the change at most (of the levels) is something else.
LARGEST_STRAY = 0.15
# Either goes one way, without a jump.
LARGEST_RETURN, LARGEST_JUMP = 0.08, 0.5

Pictures = Sequence[NDArray[np.float32]]


def find_dissolve(history: History, at: int, least_novelty: float, not_before: int) -> Gap | None:
    """Return the dissolve or wipe that has just ended at a place of the history, if one has.

    least_novelty: share of content that differs between its ends. not_before: the frame where it may begin at the
    earliest, that of the last cut.
    """
    end = history[at]
    for window_s in WINDOWS_S:
        start = history.place_at(end.time_s - window_s)
        if end.time_s - history[0].time_s < window_s or history[start].index < not_before:
            return None
        if at - start > INNER // 2:
            gap = _gap(history, start, at, least_novelty) if _differ(history[start], end) else None
            if gap:
                return gap
    return None


def _differ(first: Sample, last: Sample) -> bool:
    """Tell whether two frames could be the ends of a transition: most are too alike, and are not looked at further."""
    contrast = min(first.contrast, last.contrast)
    least = max(LEAST_DIFFERENCE, LEAST_DIFFERENCE_OF_CONTRAST * contrast)
    return contrast >= 2 * BLANK_CONTRAST and difference(first.signature, last.signature) >= least


def _gap(history: History, start: int, at: int, least_novelty: float) -> Gap | None:
    places = [start + round((at - start) * part / (INNER + 1)) for part in range(INNER + 2)]
    samples = [history[place] for place in places]
    first, last = samples[0], samples[-1]
    pictures = [sample.coarse for sample in samples]
    shares = dissolved(pictures) or wiped(pictures)
    if shares is None:
        return None
    if new_content(first.signature, last.signature, history.box, least_novelty) < least_novelty:
        return None
    middle = np.interp(0.5, np.maximum.accumulate(shares), [sample.index for sample in samples])
    return Gap(first.index + 1, int(middle), last.index)


def dissolved(pictures: Pictures) -> list[float] | None:
    """Return the share of the last picture in each, 0..1, if all are mixtures of the first and the last; else None."""
    first, last = pictures[0], pictures[-1]
    way = last - first
    length = float(np.vdot(way, way))
    shares = [0.0]
    for picture in pictures[1:-1]:
        moved = picture - first
        share = float(np.vdot(moved, way)) / length
        rest = moved - share * way
        if float(np.vdot(rest, rest)) > LARGEST_RESIDUAL * length:
            return None
        shares.append(share)
    shares.append(1.0)
    return shares if _goes_one_way(shares) else None


def wiped(pictures: Pictures) -> list[float] | None:
    """Return how far each picture has come, 0..1, if each is in parts the first and in parts the last; else None."""
    first, last = pictures[0], pictures[-1]
    change = np.abs(last - first)
    amount = float(change.sum())
    shares = [0.0]
    for picture in pictures[1:-1]:
        from_first, from_last = np.abs(picture - first), np.abs(picture - last)
        if float(np.minimum(from_first, from_last).sum()) > LARGEST_STRAY * amount:
            return None
        shares.append(float(change[from_last < from_first].sum()) / amount)
    shares.append(1.0)
    return shares if _goes_one_way(shares) else None


def _goes_one_way(shares: list[float]) -> bool:
    return all(-LARGEST_RETURN <= after - before <= LARGEST_JUMP for before, after in pairwise(shares))
