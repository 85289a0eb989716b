"""Finds small things that change and stay on a calm picture: text on slides, in chats and editors.

A signature is too small to show them. What moves on such a picture is left aside: a pointer, a clock, a ticker, a
presenter in a corner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from services.keyframes.choosing.candidates import Candidate
from services.keyframes.choosing.signatures import luma_samples

# A picture is calm when it differs from its neighbours by no more than so many levels; noise and a face are less. One
# that stays by itself may be a whole page of text away from the next.
CALM_LEVELS, CALM_PICTURE_LEVELS = 1.5, 4.0
# How often a calm picture is looked at, and one that turned out to be a film.
LOOK_EVERY_S, LOOK_AT_FILM_EVERY_S = 0.3, 2.0
# Details are looked for at this width at most, by whole factors, in squares of so many pixels.
DETAIL_WIDTH_PX, SQUARE_PX = 640, 8
# What is wider than this is light and shade, not detail.
DETAIL_PX = 9
# A square has changed by more than this many levels, and by so many times what noise changes in most squares.
LEAST_CHANGE, LEAST_CHANGE_OF_NOISE = 5.0, 3.0
# Text is at least so large, in squares: wider than a pointer, or as high.
TEXT_WIDTH, TEXT_HEIGHT, TEXT_AREA = 4, 6, 5
# Where no square differs by so much before details are made, nothing has moved.
STILL_LEVELS = 2.0
# Words this near, in squares to either side, belong to one line.
LINE = np.ones((1, 5), np.uint8)
# Ink comes or goes with so many levels of change, on average over the squares of a word; things in a film with less.
INK_LEVELS = 20.0
# What changed has stayed when it is still for so long; where something moves all the time, for so much longer.
STAYS_S, BUSY_STAYS_S = 0.7, 8.0
# A square is busy when it changed in so many looks of the last seconds, one right after the other.
# Where more than this share of the picture is busy, it is a film.
BUSY_LOOKS, BUSY_MEMORY_S, MOST_BUSY_SHARE = 2.0, 8.0, 0.15
# A change of a small share of the text waits until the view before it is so old: letters, words.
SMALL_SHARE, SMALL_GAP_S = 0.1, 1.5

Squares = NDArray[np.float32]


class Outlook(Enum):
    """What a calm picture shows, compared with the beginning of its view."""

    SAME = "the same"
    CHANGING = "something is changing, or has just changed"
    SETTLED = "the first state that stays; what was shown before led to it"
    CHANGED = "another state that stays"


@dataclass(slots=True)
class _Look:
    """luma, details: those of the last look that found motion. changed_s, busyness: of each square.

    least: what counts as a change, in levels.
    """

    time_s: float
    luma: NDArray[np.uint8]
    details: NDArray[np.uint8]
    has_moved: NDArray[np.bool_]
    changed_s: NDArray[np.float64]
    busyness: Squares
    least: float = LEAST_CHANGE


class SmallChanges:
    """Fed candidates in order, tells when a view has come to show other details, and goes on showing them.

    is_changing: whether the last look found so. same_s: when the view was last seen to be the same.
    """

    def __init__(self) -> None:
        self.same_s = 0.0
        self.is_changing = False
        self._has_stayed = False
        self._last: _Look | None = None
        self._reference: NDArray[np.uint8] | None = None
        self._view_s = 0.0
        self._next_look_s = 0.0
        self._small_views = 0

    def begin_shot(self) -> None:
        """Learn that something else altogether is shown from now on."""
        self._last = self._reference = None
        self._small_views = 0
        self.is_changing = False

    def begin_view(self) -> None:
        """Learn that more has changed than details."""
        self._reference = None
        self.is_changing = False

    def is_calm(self, candidate: Candidate) -> bool:
        """Tell whether a candidate shows a picture in which small changes could be seen."""
        return candidate.step <= (CALM_PICTURE_LEVELS if candidate.stays_s >= STAYS_S else CALM_LEVELS)

    def is_due(self, candidate: Candidate) -> bool:
        """Tell whether it is time for another look."""
        return self._last is None or candidate.frame.time_s >= self._next_look_s

    def look(self, candidate: Candidate) -> Outlook:
        """Compare a candidate with the beginning of its view."""
        time_s, luma = candidate.frame.time_s, small_luma(candidate.frame.picture)
        stays = candidate.stays_s >= STAYS_S
        last, self._next_look_s = self._last, time_s + LOOK_EVERY_S
        if last is None or last.luma.shape != luma.shape:
            shape = luma.shape[0] // SQUARE_PX, luma.shape[1] // SQUARE_PX
            still = np.zeros(shape, np.bool_)
            never = np.full(shape, -np.inf)
            self._last = _Look(time_s, luma, details(luma), still, never, np.zeros(shape, np.float32))
            return self._begin(self._last, stays)
        self._see(last, luma, time_s)
        if np.count_nonzero(last.busyness >= BUSY_LOOKS) > MOST_BUSY_SHARE * last.busyness.size:
            self._next_look_s = time_s + LOOK_AT_FILM_EVERY_S
            return self._begin(last, stays)
        if self._reference is None:
            return self._begin(last, stays)
        outlook = self._judge(self._reference, last, time_s + candidate.stays_s)
        self.is_changing = outlook is Outlook.CHANGING
        return outlook

    def _see(self, last: _Look, luma: NDArray[np.uint8], time_s: float) -> None:
        """Learn what a look shows: which squares have moved since the one before."""
        last.busyness *= np.float32(math.exp((last.time_s - time_s) / BUSY_MEMORY_S))
        last.time_s = time_s
        if _mean(cv2.absdiff(luma, last.luma)).max() < STILL_LEVELS:
            last.has_moved[:] = False
            return
        seen = details(luma)
        moved = _change(last.details, seen)
        last.least = _least_change(moved)
        has_moved = moved > last.least
        last.busyness += has_moved & last.has_moved
        last.changed_s[has_moved] = time_s
        last.luma, last.details, last.has_moved = luma, seen, has_moved

    def _begin(self, look: _Look, has_stayed: bool) -> Outlook:
        """Let a view begin with what was just seen."""
        self._reference, self._view_s, self._has_stayed = look.details, look.time_s, has_stayed
        self.same_s, self.is_changing = look.time_s, False
        return Outlook.SAME

    def _judge(self, reference: NDArray[np.uint8], now: _Look, until_s: float) -> Outlook:
        """Compare a look with the beginning of the view. until_s: how long the picture is shown."""
        change = _change(reference, now.details)
        differs = change > now.least
        if np.count_nonzero(differs) < TEXT_AREA:
            return self._remain(now.time_s, until_s)
        is_busy = now.busyness >= BUSY_LOOKS
        has_stayed = until_s - now.changed_s >= np.where(is_busy, BUSY_STAYS_S, STAYS_S)
        if not shows_text(change, differs & (has_stayed | ~is_busy)):
            return self._remain(now.time_s, until_s)
        recent = differs & ~has_stayed & ~is_busy
        settled = differs & has_stayed & ~_beside(differs, recent)
        if shows_text(change, recent) or not shows_text(change, settled):
            return Outlook.CHANGING if self._has_stayed else Outlook.SAME
        if not self._has_stayed:
            self._begin(now, has_stayed=True)
            return Outlook.SETTLED
        text = np.count_nonzero(_edges(reference) | _edges(now.details))
        if np.count_nonzero(settled) < SMALL_SHARE * text:
            if now.time_s - self._view_s < SMALL_GAP_S * (1 + self._small_views / 6):
                return Outlook.CHANGING
            self._small_views += 1
        self._begin(now, has_stayed=True)
        return Outlook.CHANGED

    def _remain(self, time_s: float, until_s: float) -> Outlook:
        """Let the view go on. until_s: how long what it shows is seen at least."""
        self.same_s = time_s
        self._has_stayed |= until_s >= self._view_s + STAYS_S
        return Outlook.SAME


def small_luma(picture: VideoFrame) -> NDArray[np.uint8]:
    """Return the luma of a picture in which details are looked for, uint8 (H, W).

    Both sides are multiples of SQUARE_PX, and W <= DETAIL_WIDTH_PX.
    """
    luma = luma_samples(picture)
    factor = -(-luma.shape[1] // DETAIL_WIDTH_PX)
    rows, columns = (side // factor // SQUARE_PX * SQUARE_PX for side in luma.shape)
    if factor > 1:
        shrunk = cv2.resize(luma[: rows * factor, : columns * factor], (columns, rows), interpolation=cv2.INTER_AREA)
        return np.asarray(shrunk, np.uint8)
    return np.array(luma[:rows, :columns])


def details(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what is finer than DETAIL_PX, at half its strength around 128, in the shape of the luma: uint8 (H, W)."""
    return np.asarray(cv2.addWeighted(luma, 0.5, cv2.blur(luma, (DETAIL_PX, DETAIL_PX)), -0.5, 128), np.uint8)


def differ_in_text(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Tell whether two calm pictures, given by their small luma, show different text."""
    if a.shape != b.shape:
        return True
    change = _change(details(a), details(b))
    return shows_text(change, change > _least_change(change))


def shows_text(change: Squares, squares: NDArray[np.bool_]) -> bool:
    """Tell whether some of the squares lie together, are as large as a word, and changed as strongly as ink does."""
    if np.count_nonzero(squares) < TEXT_AREA:
        return False
    _, labels, stats, _ = cv2.connectedComponentsWithStats(squares.astype(np.uint8), connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    is_long = (stats[:, cv2.CC_STAT_WIDTH] >= TEXT_WIDTH) | (stats[:, cv2.CC_STAT_HEIGHT] >= TEXT_HEIGHT)
    is_ink = np.bincount(labels.ravel(), change.ravel()) >= INK_LEVELS * area
    return bool((is_long & is_ink & (area >= TEXT_AREA))[1:].any())


def _beside(squares: NDArray[np.bool_], recent: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which squares belong to a line of text that still grows: they lie together with a recent one."""
    lines = cv2.dilate(squares.astype(np.uint8), LINE)
    _, labels = cv2.connectedComponents(lines, connectivity=8)
    return np.isin(labels, labels[recent]) & squares if recent.any() else recent


def _least_change(change: Squares) -> float:
    """Return what counts as a change beyond noise, which is what half of the squares show."""
    middle = change.size // 2
    return max(LEAST_CHANGE, LEAST_CHANGE_OF_NOISE * float(np.partition(change, middle, axis=None)[middle]))


def _change(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Squares:
    """Return the mean difference of two pictures' details in each square, in levels."""
    return 2.0 * _mean(cv2.absdiff(a, b))


def _edges(a: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return 2.0 * _mean(cv2.absdiff(a, np.full_like(a, 128))) > LEAST_CHANGE


def _mean(a: NDArray[Any]) -> Squares:
    """Return the mean of each square, in whole levels. Adding up rows first takes a third of the time."""
    height, width = a.shape
    rows = np.add.reduce(a.reshape(-1, SQUARE_PX, width), axis=1, dtype=np.uint16)
    size = width // SQUARE_PX, height // SQUARE_PX
    squares = cv2.resize(rows.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(squares / np.float32(SQUARE_PX)), np.float32)
