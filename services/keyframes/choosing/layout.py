"""Follows where a video's picture lies: what never changes around it (bars, a frame, a wall) is no part of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from services.keyframes.choosing.novelty import WHOLE, Box
from services.keyframes.choosing.signatures import LUMA_HEIGHT_PX, LUMA_WIDTH_PX, Signature

# A smaller part of the signature, of either side or of the whole, is something that moves, not a picture.
LEAST_SIDE, LEAST_AREA = 0.25, 0.2
# A pixel of the signature has changed when it differs by more than these levels; noise, being averaged, does not.
CHANGED_LEVELS = 5
# Layouts last: what has not changed for so many seconds is taken for a part of one.
LAYOUT_S = 24.0
# The panels are looked for anew when this share of the signature more, or less, has changed.
MOVED_SHARE = 0.01
# Rows and columns are looked at in turn, until neither cuts off anything more; a layout of panels is no deeper.
PASSES = 3


class Layout:
    """Fed some of the frames, knows the largest part of the picture that changes and has nothing still across it.

    Where several parts change (slides and who presents them), it is the one that changes in most places. Parts are
    found by cutting at still rows and columns: an XY cut, as in the analysis of printed pages.
    """

    def __init__(self) -> None:
        self._reference: Signature | None = None
        self._changed_s = np.full((LUMA_HEIGHT_PX, LUMA_WIDTH_PX), -LAYOUT_S)
        self._amount = 0
        self.box = WHOLE

    def feed(self, time_s: float, signature: Signature) -> None:
        """Take in the frame shown at this time."""
        if self._reference is not None:
            self._changed_s[cv2.absdiff(signature.luma, self._reference.luma) > CHANGED_LEVELS] = time_s
        self._reference = signature
        changes = self._changed_s > time_s - LAYOUT_S
        amount = int(np.count_nonzero(changes))
        if abs(amount - self._amount) > MOVED_SHARE * changes.size:
            self._amount = amount
            self.box = _largest_panel(changes)


def _largest_panel(changes: NDArray[np.bool_]) -> Box:
    top, bottom, left, right = 0, LUMA_HEIGHT_PX, 0, LUMA_WIDTH_PX
    for _ in range(PASSES):
        rows = _busiest_run(changes[top:bottom, left:right].sum(axis=1))
        top, bottom = top + rows[0], top + rows[1]
        columns = _busiest_run(changes[top:bottom, left:right].sum(axis=0))
        left, right = left + columns[0], left + columns[1]
    height, width = (bottom - top) / LUMA_HEIGHT_PX, (right - left) / LUMA_WIDTH_PX
    if min(height, width) < LEAST_SIDE or height * width < LEAST_AREA:
        return WHOLE
    # The outermost row or column shows the border too, unless it is the signature's own.
    return Box(top + (top > 0), bottom - (bottom < LUMA_HEIGHT_PX), left + (left > 0), right - (right < LUMA_WIDTH_PX))


def _busiest_run(changes: NDArray[np.int64]) -> tuple[int, int]:
    """Return start and end of the run of lines that holds most changes; a line with a single one is still."""
    padded = np.concatenate([[False], changes > 1, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    runs = [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return max(runs, key=lambda run: int(changes[run[0] : run[1]].sum()), default=(0, 0))
