"""Tells a cut from motion, flashes and repeated frames, whether frames follow each other closely or seconds apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.keyframes.choosing.history import History
from services.keyframes.choosing.novelty import colour_change, new_content, unexplained
from services.keyframes.choosing.signatures import BLANK_CONTRAST, difference

# What a step is compared with on either side: so many frames, and what lies within so many seconds, but never more.
HALO_FRAMES, HALO_S, MOST_HALO_S = 6, 0.2, 0.5
# A step smaller than this many levels, or than this share of the picture's contrast, is no cut.
LEAST_STEP, LEAST_STEP_OF_CONTRAST = 0.8, 0.04
# Neighbouring steps below this share of the examined one are repeated frames (animation on threes, 24 shown as 60).
REPEATED_SHARE = 0.08
# How far a cut exceeds the steps beside it.
LEAST_STEP_RATIO = 1.5
# After a flash or a flicker the picture is back: so many frames later, with less than this share of the change left,
# and no later than so many seconds. What stays longer is a picture, however few frames hold it.
FLASH_FRAMES = (2, 3, 4, 5)
FLASH_SHARE = 0.5
FLASH_S = 0.5
# Frames further apart than this show motion as steps of their own size: they are judged by what they show.
SPARSE_S = 0.09
# Between them a cut changes this share of the contrast, and makes so many times the least novelty new.
LEAST_SPARSE_STEP_OF_CONTRAST, SPARSE_NOVELTY_RATIO = 0.5, 1.3
# Between two stills so much change of colour is a cut, whatever the luma shows.
LEAST_COLOUR_CHANGE = 0.5
# A picture that stays this long says nothing about motion: one that stays half as long says half as much.
PICTURE_S = 1.25


class Finding(StrEnum):
    """What the step from one frame to the next is."""

    CUT = "cut"
    BLANK = "blank"
    SMALL_STEP = "small step"
    NOTHING_NEW = "nothing new"
    MOTION = "motion"
    FLASH = "flash"


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found at a frame. novelty: the share of it that is new, 0..1; None where it was not looked for."""

    finding: Finding
    novelty: float | None = None


def examine(history: History, at: int, least_novelty: float) -> Examination:
    """Tell what the step to the frame at a place of the history is; a cut shows another picture than the frame before.

    least_novelty: the least share of content that is new, beyond what motion makes new in the steps beside it.
    """
    before, now = history[at - 1], history[at]
    least_contrast = min(before.contrast, now.contrast)
    if least_contrast < BLANK_CONTRAST:
        return Examination(Finding.BLANK)
    if now.step < max(LEAST_STEP, LEAST_STEP_OF_CONTRAST * least_contrast):
        return Examination(Finding.SMALL_STEP)
    beside = _motion_places(history, at)
    if not beside and colour_change(before.signature, now.signature) >= LEAST_COLOUR_CHANGE:
        found = Examination(Finding.CUT, colour_change(before.signature, now.signature))
    elif _gap_s(history, at - 1, at) > SPARSE_S:
        found = _examine_sparse(history, at, least_novelty)
    else:
        found = _examine_dense(history, at, beside, least_novelty)
    if found.finding is Finding.CUT and _is_flash(history, at, found.novelty or 0.0):
        return Examination(Finding.FLASH, found.novelty)
    return found


def _examine_dense(history: History, at: int, beside: Sequence[int], least_novelty: float) -> Examination:
    """Compare a step with the motion on both sides, which goes on evenly across it unless it is a cut."""
    before, now = history[at - 1], history[at]
    if any(now.step < LEAST_STEP_RATIO * history[place].step for place in beside):
        return Examination(Finding.MOTION)
    new = new_content(before.signature, now.signature, history.box, least_novelty)
    if new < least_novelty:
        return Examination(Finding.NOTHING_NEW, new)
    most_motion = new - least_novelty
    for place in beside:
        earlier, later = history[place - 1].signature, history[place].signature
        if unexplained(earlier, later, history.box, least=most_motion) > most_motion:
            return Examination(Finding.MOTION, new)
    return Examination(Finding.CUT, new)


def _examine_sparse(history: History, at: int, least_novelty: float) -> Examination:
    """Compare a step with the calmer side: where each shot has few frames, the other side is often a cut itself."""
    before, now = history[at - 1], history[at]
    if now.step < LEAST_SPARSE_STEP_OF_CONTRAST * min(before.contrast, now.contrast):
        return Examination(Finding.SMALL_STEP)
    new = new_content(before.signature, now.signature, history.box)
    least = SPARSE_NOVELTY_RATIO * least_novelty
    if new < least:
        return Examination(Finding.NOTHING_NEW, new)
    if new - min(_motion_beside(history, at), default=0.0) < least:
        return Examination(Finding.MOTION, new)
    return Examination(Finding.CUT, new)


def _motion_beside(history: History, at: int) -> Iterator[float]:
    """Yield what motion makes new on each side, counted the less, the longer the picture on that side stays."""
    for place in (at - 1, at + 1):
        if 0 < place < len(history):
            weight = max(0.0, 1.0 - _gap_s(history, min(place, at), max(place, at)) / PICTURE_S)
            earlier, later = history[place - 1].signature, history[place].signature
            yield weight * unexplained(earlier, later, history.box) if weight else 0.0


def _gap_s(history: History, earlier: int, later: int) -> float:
    """Return the seconds from one place of the history to another."""
    return history[later].time_s - history[earlier].time_s


def _motion_places(history: History, at: int) -> list[int]:
    """Return the place of the nearest motion on each side; none where the picture is still."""
    nearest = (
        _nearest_motion(history, at, range(at - 1, 0, -1)),
        _nearest_motion(history, at, range(at + 1, len(history))),
    )
    return [place for place in nearest if place is not None]


def _nearest_motion(history: History, at: int, places: Iterable[int]) -> int | None:
    """Return the first place on one side that does not repeat the frame before it; None within the halo means still."""
    now = history[at]
    for place in places:
        away_s = abs(history[place].time_s - now.time_s)
        if away_s > MOST_HALO_S or (abs(place - at) > HALO_FRAMES and away_s > HALO_S):
            return None
        if history[place].step > REPEATED_SHARE * now.step:
            return place
    return None


def _is_flash(history: History, at: int, new: float) -> bool:
    last = len(history) - 1
    for frames in FLASH_FRAMES:
        for first, second in ((at - 1, at - 1 + frames), (at - frames, at)):
            if first < 0 or second > last or _gap_s(history, first + 1, second) > FLASH_S:
                continue
            left = difference(history[first].signature, history[second].signature)
            if left < FLASH_SHARE * history[at].step:
                return True
    later = [
        place for place in range(at + 1, min(last, at + FLASH_FRAMES[1]) + 1) if _gap_s(history, at, place) <= FLASH_S
    ]
    if not later:
        return False
    before, after = history[at - 1].signature, history[later[-1]].signature
    if colour_change(before, after) >= LEAST_COLOUR_CHANGE:
        return False
    return new_content(before, after, history.box) < FLASH_SHARE * new
