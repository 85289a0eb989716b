"""Chooses the frames that stand for each shot: calm and sharp ones, one for each thing the shot comes to show."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from services.keyframes.choosing.candidates import Candidate, CandidateSampler, sharpness
from services.keyframes.choosing.novelty import WHOLE, Box, missing_blocks
from services.keyframes.choosing.scores import NEW_VIEW, SMALL_CHANGE, Scores
from services.keyframes.choosing.shots import Shot, Transition
from services.keyframes.choosing.signatures import Signature, difference
from services.keyframes.choosing.small_changes import Outlook, SmallChanges, differ_in_text, small_luma
from services.keyframes.reading.frames import Frame

# Frames this near a transition can carry traces of it, unless they stay so long that they are pictures of their own.
MARGIN_FRAMES, MARGIN_S = 2, 0.15
# Decoded pictures held for each view until one of them is chosen.
CANDIDATES_PER_VIEW = 4
# Decoded pictures held at most until it is certain which shot they belong to; a long dim stretch leaves that open.
WAITING_CANDIDATES = 24
# How often the content is compared with what the shot has shown so far. Two comparisons in a row must find it new, or
# one, of a frame that stays so long.
COMPARE_EVERY_S, PICTURE_S = 0.35, 1.0
# Views of one shot become rarer with their number: the n-th begins at least so many seconds x n after the one before.
VIEW_GAP_S = 0.5
# A picture is compared with this many views and picks at most, so that an endless shot costs no more than others.
REMEMBERED_VIEWS = 12
# What is new since the last comparison is put down to motion, half of it after so many seconds of the same view.
MOTION_S = 4.0
# Two pictures show the same when their difference is below this share of their contrast (and one level) and no part
# of either misses more than this share of its content in the other.
SAME_LEVELS, SAME_LEVELS_SHARE, SAME_CONTENT = 1.0, 0.12, 0.12


@dataclass(frozen=True)
class Pick:
    """A frame chosen to stand for a shot or a part of it."""

    frame: Frame
    shot_index: int


@dataclass(frozen=True)
class Outline:
    """What is known of a video when it has been read to its end.

    repeats: by frame index of a pick, the later time ranges [start_s, end_s) whose own pick was dropped, because it was
    a near-duplicate of it.
    """

    shots: tuple[Shot, ...]
    repeats: Mapping[int, tuple[tuple[float, float], ...]]


def novelty(known: Signature, seen: Signature, box: Box) -> float:
    """Return how much new content there is in the quarter of the picture (the box) that has most of it, 0..1."""
    shares, weights = missing_blocks(known, seen, box)
    return float(np.sort(shares * weights)[-len(shares) // 4 :].mean())


def are_near_duplicates(a: Signature, b: Signature, box: Box, same_content: float = SAME_CONTENT) -> bool:
    """Tell whether two pictures show the same for a person who looks for what is in a video."""
    if difference(a, b) > SAME_LEVELS + SAME_LEVELS_SHARE * min(a.contrast, b.contrast):
        return False
    return novelty(a, b, box) < same_content and novelty(b, a, box) < same_content


class Sight(Enum):
    """What a shot shows, compared with what it showed before."""

    SAME = "the current view, perhaps in motion"
    RETURNED = "an earlier view"
    NEW = "something new"


@dataclass(slots=True)
class View:
    """A part of a shot that shows the same.

    leader: what it looks like. differs_in_text: nothing larger than text tells it from the view before.
    """

    start_s: float
    leader: Signature
    differs_in_text: bool = False
    candidates: list[Candidate] = field(default_factory=list)

    def add(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)
        if len(self.candidates) > CANDIDATES_PER_VIEW:
            self.candidates.remove(max(self.candidates, key=lambda one: one.motion))

    def best(self) -> Candidate:
        if len(self.candidates) == 1:
            return self.candidates[0]
        return max(self.candidates, key=lambda one: sharpness(one.frame) / one.motion)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A pick that later ones are compared with. luma: the small one, in which text is compared, uint8 (H, W)."""

    frame_index: int
    shot_index: int
    signature: Signature
    luma: NDArray[np.uint8]


class KeyFrameChooser:
    """Fed the frames and told the transitions of a video in order, chooses as soon as a view has ended.

    view_novelty: share of new content from which a shot gets a further key frame; from 1 on there is never one.
    duplicate_memory_shots: with how many shots before its own a pick is compared.
    scores: where it is kept at which frames a view began, when that is asked for.
    """

    def __init__(self, view_novelty: float, duplicate_memory_shots: int, scores: Scores | None = None) -> None:
        self._scores = scores
        self._view_novelty = view_novelty
        self._duplicate_memory_shots = duplicate_memory_shots
        self._sampler = CandidateSampler()
        self._waiting: deque[Candidate] = deque()  # not yet certain which shot they belong to
        self._spare: list[Candidate] = []  # of the current shot, too near a transition to be taken gladly
        self._shots: list[Shot] = []
        self._start_frame, self._start_s = 0, 0.0
        self._clear_from = -MARGIN_FRAMES
        self._views: list[View] = []
        self._sight = Sight.SAME
        self._new_since_s = 0.0
        self._next_comparison_s = 0.0
        self._compared: Signature | None = None
        self._small_changes = SmallChanges()
        self._fallback: Candidate | None = None
        self._kept: list[_Kept] = []
        self._repeats: dict[int, list[tuple[float, float]]] = {}
        self._chosen: list[Pick] = []
        self._last_frame: Frame | None = None
        self._box = WHOLE

    def feed(self, frame: Frame, signature: Signature, box: Box) -> None:
        """Take in the next frame. box: the part of the picture that changes at all."""
        self._last_frame = frame
        self._box = box
        for candidate in self._sampler.feed(frame, signature):
            self._wait(candidate)

    def settle(self, settled_frame: int) -> None:
        """Learn that the frames before settled_frame belong to the current shot."""
        while self._waiting and self._waiting[0].frame.index < settled_frame - _margin_frames(self._waiting[0]):
            self._take(self._waiting.popleft())

    def end_shot(self, transition: Transition) -> None:
        """Learn that the current shot has ended and the next one begun."""
        self.settle(transition.first_frame)
        self._close_shot(transition.start_frame, transition.start_s)
        self._clear_from = transition.end_frame

    def finish(self) -> Outline:
        """Learn that there are no more frames."""
        for candidate in self._sampler.finish():
            self._wait(candidate)
        last = self._last_frame
        if last is None:
            return Outline((), {})
        self.settle(last.index + 1 + MARGIN_FRAMES)
        self._close_shot(last.index + 1, last.end_s)
        if not self._kept and self._fallback:
            self._chosen.append(Pick(self._fallback.frame, self._shot_at(self._fallback.frame.index)))
        return Outline(tuple(self._shots), {index: tuple(ranges) for index, ranges in self._repeats.items()})

    def take_chosen(self) -> list[Pick]:
        """Return the picks chosen since the last call."""
        chosen, self._chosen = self._chosen, []
        return chosen

    def _wait(self, candidate: Candidate) -> None:
        if candidate.is_usable:
            self._waiting.append(candidate)
            if len(self._waiting) > WAITING_CANDIDATES:
                self._waiting.remove(max(self._waiting, key=lambda one: one.motion))
        if not self._kept and (self._fallback is None or _visibility(candidate) > _visibility(self._fallback)):
            self._fallback = candidate

    def _take(self, candidate: Candidate) -> None:
        """Add a candidate to the current shot."""
        if candidate.frame.index < self._clear_from + _margin_frames(candidate):
            if candidate.frame.index >= self._start_frame:
                self._spare.append(candidate)
            return
        time_s = candidate.frame.time_s
        if not self._views:
            self._views.append(View(self._start_s, candidate.signature))
            self._sight, self._compared = Sight.SAME, candidate.signature
        elif time_s >= self._next_comparison_s:
            self._next_comparison_s = time_s + COMPARE_EVERY_S
            sight, self._sight = self._sight, self._look(candidate)
            if self._sight is Sight.NEW and (sight is Sight.NEW or candidate.stays_s >= PICTURE_S):
                self._new_since_s = self._new_since_s if sight is Sight.NEW else time_s
                self._close_view(self._new_since_s)
                self._views.append(View(self._new_since_s, candidate.signature))
                self._sight = Sight.SAME
                self._small_changes.begin_view()
                if self._scores:
                    self._scores.add_view(candidate.frame.index, NEW_VIEW)
            elif self._sight is Sight.NEW:
                self._new_since_s = time_s
        if self._sight is not Sight.NEW:
            self._add(candidate)

    def _add(self, candidate: Candidate) -> None:
        """Add a candidate to the current view, or to the next one where it shows that a small change has stayed."""
        changes, view = self._small_changes, self._views[-1]
        if changes.is_calm(candidate):
            same_s = changes.same_s
            outlook = changes.look(candidate) if changes.is_due(candidate) else Outlook.SAME
            if changes.is_changing:
                return
            if outlook is Outlook.SETTLED:
                view.candidates = []
            elif outlook is Outlook.CHANGED:
                view.candidates = [one for one in view.candidates if one.frame.time_s <= same_s]
                self._close_view(candidate.frame.time_s)
                view = View(candidate.frame.time_s, candidate.signature, differs_in_text=True)
                self._views.append(view)
                self._sight = Sight.SAME
                if self._scores:
                    self._scores.add_view(candidate.frame.index, SMALL_CHANGE)
        if self._sight is Sight.SAME:
            view.add(candidate)

    def _look(self, candidate: Candidate) -> Sight:
        """Compare a candidate with what its shot has shown so far."""
        before, self._compared = self._compared, candidate.signature
        view, time_s = self._views[-1], candidate.frame.time_s
        new = novelty(view.leader, candidate.signature, self._box)
        if new < self._view_novelty:
            return Sight.SAME
        for earlier in self._views[-REMEMBERED_VIEWS:-1]:
            if novelty(earlier.leader, candidate.signature, self._box) < self._view_novelty:
                return Sight.RETURNED
        if before is None or time_s < view.start_s + VIEW_GAP_S * len(self._views):
            return Sight.SAME
        motion = novelty(before, candidate.signature, self._box) * MOTION_S / (MOTION_S + time_s - view.start_s)
        return Sight.NEW if new - motion >= self._view_novelty else Sight.SAME

    def _close_shot(self, end_frame: int, end_s: float) -> None:
        while self._waiting and self._waiting[0].frame.index < end_frame:
            self._spare.append(self._waiting.popleft())
        if not self._views and self._spare:
            view = View(self._start_s, self._spare[0].signature)
            for candidate in self._spare:
                view.add(candidate)
            self._views.append(view)
        self._close_view(end_s)
        self._shots.append(Shot(self._start_frame, end_frame, self._start_s, end_s))
        self._start_frame, self._start_s = end_frame, end_s
        self._views, self._spare, self._compared = [], [], None
        self._small_changes.begin_shot()

    def _close_view(self, end_s: float) -> None:
        if not self._views or not self._views[-1].candidates:
            return
        view, shot_index = self._views[-1], len(self._shots)
        best = view.best()
        luma = small_luma(best.frame.picture)
        view.candidates = []
        self._kept = [one for one in self._kept if one.shot_index >= shot_index - self._duplicate_memory_shots]
        for kept in self._kept[-REMEMBERED_VIEWS:]:
            same_content = self._view_novelty if kept.shot_index == shot_index else SAME_CONTENT
            if view.differs_in_text and differ_in_text(kept.luma, luma):
                continue
            if are_near_duplicates(kept.signature, best.signature, self._box, same_content):
                self._repeats.setdefault(kept.frame_index, []).append((view.start_s, end_s))
                return
        self._kept.append(_Kept(best.frame.index, shot_index, best.signature, luma))
        self._chosen.append(Pick(best.frame, shot_index))

    def _shot_at(self, frame_index: int) -> int:
        return next(index for index, shot in enumerate(self._shots) if frame_index < shot.end_frame)


def _margin_frames(candidate: Candidate) -> int:
    return MARGIN_FRAMES if candidate.stays_s < MARGIN_S else 0


def _visibility(candidate: Candidate) -> tuple[bool, float]:
    """Order the frames of a video that shows nothing: whole before damaged, then by contrast and light."""
    signature = candidate.signature
    return not candidate.frame.is_corrupt, signature.contrast + float(signature.luma.mean())
