"""Finds the shots of a video while it is being read: cuts, fades and dissolves, but not flashes and motion."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from services.keyframes.choosing.cuts import FLASH_S, HALO_FRAMES, HALO_S, Finding, examine
from services.keyframes.choosing.dissolves import RATE_HZ, WINDOWS_S, find_dissolve
from services.keyframes.choosing.fades import FadeDetector, Gap
from services.keyframes.choosing.history import History
from services.keyframes.choosing.novelty import Box
from services.keyframes.choosing.scores import DISSOLVE, FADE, Scores
from services.keyframes.choosing.signatures import Signature

# Long enough to see the longest gradual transition and both sides of it.
HISTORY_S = 2 * WINDOWS_S[-1]
# Nothing begins earlier than this before the frame under examination without having been noticed.
DELAY_S = WINDOWS_S[-1] + 0.2
# A dissolve is seen several times while it ends; the first sighting stands for all within so many seconds.
SAME_DISSOLVE_S = 0.4
# Two transitions are one when they are nearer than this in frames and in time.
LEAST_SHOT_FRAMES, LEAST_SHOT_S = 3, 0.15


@dataclass(frozen=True)
class Shot:
    """One continuous take: frames [start_frame, end_frame), shown during [start_s, end_s).

    The shots of a video partition it. The boundary of a gradual transition lies in its middle.
    """

    start_frame: int
    end_frame: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Transition:
    """What separates two shots.

    start_frame, start_s: the first frame of the new shot, in the middle of a gradual transition.
    first_frame, end_frame: the frames [first_frame, end_frame) show neither picture alone; none at a cut.
    """

    start_frame: int
    start_s: float
    first_frame: int
    end_frame: int


class ShotDetector:
    """Fed the signatures of a video in order, tells its transitions as soon as they are certain.

    cut_novelty, gradual_novelty: share of content that must be new across a cut and a gradual transition, 0..1.
    scores: where what is seen at each frame is kept, when it is asked for.
    settled_frame: no transition still to be told touches a frame before this one.
    """

    def __init__(self, cut_novelty: float, gradual_novelty: float, scores: Scores | None = None) -> None:
        self.settled_frame = 0
        self._cut_novelty = cut_novelty
        self._gradual_novelty = gradual_novelty
        self._scores = scores
        self._history = History(HISTORY_S, 3 * HALO_FRAMES)
        self._fades = FadeDetector(cut_novelty)
        self._unsettled: deque[tuple[int, float]] = deque()  # index and time of frames
        self._found: list[Transition] = []
        self._examined_frame = -1
        self._last_cut = 0
        self._next_dissolve_s = 0.0

    @property
    def box(self) -> Box:
        """The part of the picture that changes at all."""
        return self._history.box

    def feed(self, index: int, time_s: float, signature: Signature) -> list[Transition]:
        """Take in a frame; return the transitions that have become certain, in order."""
        history = self._history
        history.feed(index, time_s, signature)
        self._unsettled.append((index, time_s))
        self._add(self._fades.feed(history), FADE)
        while self._is_ripe(place := self._next_place()):
            self._examine(place)
        return self._settle()

    def finish(self) -> list[Transition]:
        """Return the transitions that are left when there are no more frames."""
        for place in range(self._next_place(), len(self._history)):
            self._examine(place)
        self._add(self._fades.finish(self._history), FADE)
        found, self._found = self._found, []
        return found

    def _next_place(self) -> int:
        """Return where in the history the first frame lies that has not been examined."""
        return self._examined_frame + 1 - self._history[0].index if len(self._history) else 0

    def _is_ripe(self, place: int) -> bool:
        """Tell whether enough has come after a place of the history to judge it."""
        frames = len(self._history) - 1 - place
        if frames < 1:
            return False
        after_s = self._history[-1].time_s - self._history[place].time_s
        return after_s >= FLASH_S or (frames >= HALO_FRAMES and after_s >= HALO_S)

    def _examine(self, place: int) -> None:
        """Look for a cut at a place of the history and for a dissolve that ends there."""
        sample = self._history[place]
        self._examined_frame = sample.index
        found = examine(self._history, place, self._cut_novelty) if place else None
        if self._scores:
            self._scores.add_frame(sample, found)
        if found and found.finding is Finding.CUT:
            self._last_cut = sample.index
            self._fades.cut(sample.index)
            self._add(Gap(sample.index, sample.index, sample.index))
        elif sample.time_s >= self._next_dissolve_s:
            self._next_dissolve_s = sample.time_s + 1 / RATE_HZ
            gap = find_dissolve(self._history, place, self._gradual_novelty, self._last_cut)
            if gap:
                self._next_dissolve_s = sample.time_s + SAME_DISSOLVE_S
                self._add(gap, DISSOLVE)

    def _add(self, gap: Gap | None, word: str | None = None) -> None:
        """Take in a transition; gradual ones that touch are one, and swallow the cuts in their midst.

        word: what the scores call it, unless it is a cut.
        """
        if gap is None:
            return
        if self._scores and word:
            self._scores.add_gradual(gap, word)
        near = [one for one in self._found if self._touch(one, gap)]
        if near and gap.first_frame == gap.end_frame:
            return
        gradual = [one for one in near if one.first_frame < one.end_frame]
        if gradual:
            first_frame = min(gap.first_frame, *(one.first_frame for one in gradual))
            end_frame = max(gap.end_frame, *(one.end_frame for one in gradual))
            gap = Gap(first_frame, gradual[0].start_frame, end_frame)
        self._found = [one for one in self._found if one not in near]
        start_s = self._time_s(gap.middle_frame)
        self._found.append(Transition(gap.middle_frame, start_s, gap.first_frame, gap.end_frame))
        self._found.sort(key=lambda one: one.start_frame)

    def _settle(self) -> list[Transition]:
        if self._next_place() == 0:
            return []
        examined = self._history[self._next_place() - 1]
        certain = self._certain_frame(examined.time_s - DELAY_S)
        if self._fades.open_since is not None:
            certain = min(certain, self._fades.open_since)
        told = [one for one in self._found if one.end_frame + LEAST_SHOT_FRAMES < certain]
        self._found = self._found[len(told) :]
        if self._found:
            certain = min(certain, self._found[0].first_frame)
        self.settled_frame = max(self.settled_frame, certain)
        while self._unsettled[0][0] < self.settled_frame:
            self._unsettled.popleft()
        return told

    def _certain_frame(self, time_s: float) -> int:
        """Return the first frame not settled yet that is shown at time_s or later."""
        return next(index for index, shown_s in self._unsettled if shown_s >= time_s)

    def _time_s(self, frame_index: int) -> float:
        """Return when a frame not settled yet is shown."""
        return self._unsettled[frame_index - self._unsettled[0][0]][1]

    def _touch(self, transition: Transition, gap: Gap) -> bool:
        """Tell whether hardly a frame lies between a transition and a gap."""
        return self._is_near(transition.first_frame, gap.end_frame) and self._is_near(
            gap.first_frame, transition.end_frame
        )

    def _is_near(self, later: int, earlier: int) -> bool:
        """Tell whether the frame `later` follows `earlier` at once, or does not follow it."""
        frames = later - earlier
        return frames <= 0 or (
            frames < LEAST_SHOT_FRAMES and self._time_s(later) - self._time_s(earlier) < LEAST_SHOT_S
        )
