"""Tells a cut from motion, flashes and repeated frames."""

from __future__ import annotations

from collections.abc import Iterable

from services.keyframes.choosing.history import History
from services.keyframes.choosing.novelty import unexplained
from services.keyframes.choosing.signatures import BLANK_CONTRAST, difference

# What a step is compared with on either side: so many frames, and what lies within so many seconds.
HALO_FRAMES, HALO_S = 6, 0.2
# A step smaller than this many levels, or than this share of the picture's contrast, is no cut.
LEAST_STEP, LEAST_STEP_OF_CONTRAST = 0.8, 0.04
# Neighbouring steps below this share of the examined one are repeated frames (animation on threes, 24 shown as 60).
REPEATED_SHARE = 0.08
# How far a cut exceeds the steps beside it.
LEAST_STEP_RATIO = 1.5
# After a flash or a flicker the picture is back: so many frames later, with less than this share of the change left.
FLASH_FRAMES = (2, 3, 4, 5)
FLASH_SHARE = 0.5


def is_cut(history: History, at: int, least_novelty: float) -> bool:
    """Tell whether the frame at a place in the history shows another picture than the frame before it.

    least_novelty: the least share of content that is new, beyond what motion makes new in the steps beside it.
    """
    before, now = history[at - 1], history[at]
    least_contrast = min(before.contrast, now.contrast)
    if least_contrast < BLANK_CONTRAST or now.step < max(LEAST_STEP, LEAST_STEP_OF_CONTRAST * least_contrast):
        return False
    beside = [
        _nearest_motion(history, at, range(at - 1, 0, -1)),
        _nearest_motion(history, at, range(at + 1, len(history))),
    ]
    places = [place for place in beside if place is not None]
    if any(now.step < LEAST_STEP_RATIO * history[place].step for place in places):
        return False
    new = unexplained(before.signature, now.signature, history.box, least_novelty)
    if new < least_novelty:
        return False
    most_motion = new - least_novelty
    for place in places:
        earlier, later = history[place - 1].signature, history[place].signature
        if unexplained(earlier, later, history.box, least=most_motion) > most_motion:
            return False
    return not _is_flash(history, at, new)


def _nearest_motion(history: History, at: int, places: Iterable[int]) -> int | None:
    """Return the first place on one side that does not repeat the frame before it; None within the halo means still."""
    now = history[at]
    for place in places:
        if abs(place - at) > HALO_FRAMES and abs(history[place].time_s - now.time_s) > HALO_S:
            return None
        if history[place].step > REPEATED_SHARE * now.step:
            return place
    return None


def _is_flash(history: History, at: int, new: float) -> bool:
    last = len(history) - 1
    for frames in FLASH_FRAMES:
        for first, second in ((at - 1, at - 1 + frames), (at - frames, at)):
            if first >= 0 and second <= last:
                left = difference(history[first].signature, history[second].signature)
                if left < FLASH_SHARE * history[at].step:
                    return True
    after = history[min(last, at + FLASH_FRAMES[1])]
    return unexplained(history[at - 1].signature, after.signature, history.box) < FLASH_SHARE * new
