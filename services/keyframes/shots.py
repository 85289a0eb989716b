"""Finds the shots of a video while it is being read: cuts, fades and dissolves, but not flashes and motion."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from services.keyframes.novelty import Box, Layout, unexplained
from services.keyframes.signatures import BLANK_CONTRAST, Signature, difference


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
    first_frame, end_frame: the frames [first_frame, end_frame) belong to neither picture; none at a cut.
    """

    start_frame: int
    start_s: float
    first_frame: int
    end_frame: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame as the detector remembers it. step: difference to the frame before it, in levels of 255."""

    index: int
    time_s: float
    signature: Signature
    step: float


# --- cuts
# Frames on either side that a step is compared with.
HALO_FRAMES = 6
# A step smaller than this many levels, or than this share of the picture's contrast, is no cut.
LEAST_STEP, LEAST_STEP_OF_CONTRAST = 0.8, 0.04
# Neighbouring steps below this share of the examined one are repeated frames (animation on threes, 24 shown as 60).
REPEATED_SHARE = 0.08
# The examined step must exceed its neighbours, and what it brings must exceed what motion brings in theirs.
LEAST_STEP_RATIO = 1.2
# A flash or a flicker: this many frames later the picture is back.
FLASH_FRAMES = (2, 3, 4, 5)
FLASH_SHARE = 0.5

# --- fades
DIP_SHARE = 0.25
RAMP_SHARE = 0.8

# --- dissolves
WINDOWS_S = (0.3, 0.45, 0.65, 0.95, 1.35)
LONGEST_S = WINDOWS_S[-1]
GRADUAL_RATE_HZ = 12.0
LEAST_GRADUAL_STEP, LEAST_GRADUAL_OF_CONTRAST = 1.5, 0.15
LARGEST_RESIDUAL = 0.06


class ShotDetector:
    """Fed the signatures of a video in order, tells its transitions as soon as they are certain.

    settled_frame: no transition that is still to be told touches a frame before this one.
    """

    def __init__(self, cut_novelty: float = 0.22, gradual_novelty: float = 0.3) -> None:
        self.settled_frame = 0
        self.layout = Layout()
        self._cut_novelty = cut_novelty
        self._gradual_novelty = gradual_novelty
        self._samples: deque[Sample] = deque()
        self._found: list[Transition] = []
        self._cuts: deque[int] = deque(maxlen=64)
        self._dip: _Dip | None = None
        self._waiting_dip: _Dip | None = None
        self._gradual: tuple[float, Transition] | None = None
        self._next_gradual_s = 0.0

    def feed(self, index: int, time_s: float, signature: Signature) -> list[Transition]:
        samples = self._samples
        step = difference(samples[-1].signature, signature) if samples else 0.0
        samples.append(Sample(index, time_s, signature, step))
        if index % 4 == 0:
            self.layout.feed(index, signature)
        self._examine_dip()
        examined = len(samples) - 1 - HALO_FRAMES
        if examined >= 1:
            self._examine_cut(examined)
            self._examine_gradual(examined)
        self._forget(time_s)
        return self._settle()

    def finish(self) -> list[Transition]:
        for examined in range(max(1, len(self._samples) - HALO_FRAMES), len(self._samples)):
            self._examine_cut(examined)
            self._examine_gradual(examined)
        if self._waiting_dip:
            self._end_dip(self._waiting_dip)
        if self._gradual:
            self._add(self._gradual[1])
        told, self._found = self._found, []
        return told

    # --- bookkeeping

    def _forget(self, time_s: float) -> None:
        while self._samples[0].time_s < time_s - 2 * LONGEST_S and len(self._samples) > 3 * HALO_FRAMES:
            self._samples.popleft()

    def _add(self, transition: Transition) -> None:
        for other in self._found:
            if transition.first_frame <= other.end_frame + 2 and other.first_frame <= transition.end_frame + 2:
                longer = max(transition, other, key=lambda one: (one.end_frame - one.first_frame, -one.start_frame))
                self._found[self._found.index(other)] = longer
                return
        self._found.append(transition)
        self._found.sort(key=lambda one: one.start_frame)

    def _transition(self, start_frame: int, first_frame: int, end_frame: int) -> Transition:
        start_s = next(one.time_s for one in self._samples if one.index >= start_frame)
        return Transition(start_frame, start_s, first_frame, end_frame)

    def _settle(self) -> list[Transition]:
        last = self._samples[-1]
        settled = next((s.index for s in self._samples if s.time_s >= last.time_s - 1.4 * LONGEST_S), last.index)
        settled = min(settled, last.index - 2 * HALO_FRAMES)
        for dip in (self._dip, self._waiting_dip):
            if dip:
                settled = min(settled, dip.ramp_first)
        if self._gradual:
            settled = min(settled, self._gradual[1].first_frame)
        told = [one for one in self._found if one.end_frame + 3 < settled]
        self._found = self._found[len(told) :]
        if self._found:
            settled = min(settled, self._found[0].first_frame)
        self.settled_frame = max(self.settled_frame, settled)
        return told

    # --- cuts

    def _examine_cut(self, at: int) -> None:
        s = self._samples
        now, before = s[at], s[at - 1]
        step = now.step
        if step < LEAST_STEP:
            return
        contrast = min(now.signature.contrast, before.signature.contrast)
        if contrast < BLANK_CONTRAST or step < LEAST_STEP_OF_CONTRAST * contrast:
            return
        earlier = self._neighbour(at, range(at - 1, max(0, at - 1 - HALO_FRAMES), -1))
        later = self._neighbour(at, range(at + 1, min(len(s), at + 1 + HALO_FRAMES)))
        for x in (earlier, later):
            if x is not None and step < LEAST_STEP_RATIO * s[x].step:
                return
        box = self.layout.box
        new = unexplained(before.signature, now.signature, box)
        if new < self._cut_novelty:
            return
        motion = [unexplained(s[x - 1].signature, s[x].signature, box) for x in (earlier, later) if x is not None]
        if new - max(motion, default=0.0) < self._cut_novelty:
            return
        if self._is_flash(at, new, box):
            return
        self._cuts.append(now.index)
        self._add(Transition(now.index, now.time_s, now.index, now.index))

    def _neighbour(self, at: int, others: Iterable[int]) -> int | None:
        s = self._samples
        return next((x for x in others if s[x].step > REPEATED_SHARE * s[at].step), None)

    def _is_flash(self, at: int, new: float, box: Box) -> bool:
        s = self._samples
        step = s[at].step
        for k in FLASH_FRAMES:
            for i, j in ((at - 1, at - 1 + k), (at - k, at)):
                if i >= 0 and j < len(s) and difference(s[i].signature, s[j].signature) < FLASH_SHARE * step:
                    return True
        j = min(len(s) - 1, at + 3)
        return unexplained(s[at - 1].signature, s[j].signature, box) < FLASH_SHARE * new

    # --- fades

    def _examine_dip(self) -> None:
        s = self._samples
        now = s[-1]
        contrast = now.signature.contrast
        if self._waiting_dip and (now.time_s >= self._waiting_dip.end_s + 0.5):
            self._end_dip(self._waiting_dip)
            self._waiting_dip = None
        if self._dip is None:
            peak = max(s, key=lambda one: one.signature.contrast if one.time_s > now.time_s - LONGEST_S else 0)
            if contrast < max(BLANK_CONTRAST, DIP_SHARE * peak.signature.contrast):
                if self._waiting_dip and peak.index <= self._waiting_dip.end_frame + 2:
                    self._dip, self._waiting_dip = self._waiting_dip, None
                    return
                if self._waiting_dip:
                    self._end_dip(self._waiting_dip)
                    self._waiting_dip = None
                ramp = next(
                    (
                        one.index + 1
                        for one in reversed(s)
                        if one.signature.contrast >= RAMP_SHARE * peak.signature.contrast
                    ),
                    now.index,
                )
                had_content = peak.signature.contrast >= max(2 * BLANK_CONTRAST, 2 * contrast)
                self._dip = _Dip(peak if had_content else None, ramp, now.index, now.time_s)
            return
        dip = self._dip
        floor = dip.before.signature.contrast if dip.before else 0.0
        if contrast < BLANK_CONTRAST:
            dip.is_blank = True
        if contrast >= max(BLANK_CONTRAST, DIP_SHARE * floor):
            dip.end_frame, dip.end_s = now.index, now.time_s
            self._dip, self._waiting_dip = None, dip
        elif not dip.is_blank and now.time_s - dip.start_s > LONGEST_S:
            self._dip = None

    def _end_dip(self, dip: _Dip) -> None:
        if dip.before is None:
            return
        after = [one for one in self._samples if one.index >= dip.end_frame and one.time_s <= dip.end_s + 0.5]
        if not after:
            return
        peak = max(after, key=lambda one: one.signature.contrast)
        if peak.signature.contrast < 2 * BLANK_CONTRAST:
            return
        is_short = dip.end_s - dip.start_s < 0.5
        if is_short and unexplained(dip.before.signature, peak.signature, self.layout.box) < self._cut_novelty:
            return
        ramp_end = next(one.index for one in after if one.signature.contrast >= RAMP_SHARE * peak.signature.contrast)
        self._add(self._transition((dip.start_frame + dip.end_frame) // 2, dip.ramp_first, ramp_end))

    # --- dissolves

    def _examine_gradual(self, at: int) -> None:
        s = self._samples
        end = s[at]
        if self._gradual and end.time_s > self._gradual[0]:
            self._add(self._gradual[1])
            self._gradual = None
        if end.time_s < self._next_gradual_s:
            return
        self._next_gradual_s = end.time_s + 1 / GRADUAL_RATE_HZ - 1e-3
        start = at
        for window_s in WINDOWS_S:
            while start > 0 and end.time_s - s[start].time_s < window_s - 1e-3:
                start -= 1
            if at - start < 4 or end.time_s - s[start].time_s < window_s - 1e-3:
                continue
            transition = self._dissolve(start, at)
            if transition:
                if self._gradual is None:
                    self._gradual = (end.time_s + 0.3, transition)
                return

    def _dissolve(self, start: int, end: int) -> Transition | None:
        s = self._samples
        a, b = s[start], s[end]
        if self._cuts and self._cuts[-1] > a.index and any(a.index < cut <= b.index for cut in self._cuts):
            return None
        contrast = min(a.signature.contrast, b.signature.contrast)
        if contrast < 2 * BLANK_CONTRAST:
            return None
        distance = difference(a.signature, b.signature)
        if distance < max(LEAST_GRADUAL_STEP, LEAST_GRADUAL_OF_CONTRAST * contrast):
            return None
        way = b.signature.values.astype(np.float32) - a.signature.values
        length = float((way * way).sum())
        shares, residuals = [], []
        for k in range(1, 6):
            m = start + round((end - start) * k / 6)
            part = s[m].signature.values.astype(np.float32) - a.signature.values
            share = float((part * way).sum()) / length
            rest = part - share * way
            shares.append(share)
            residuals.append(float((rest * rest).sum()) / length)
        if max(residuals) > LARGEST_RESIDUAL:
            return None
        steps = np.diff([0.0, *shares, 1.0])
        if steps.min() < -0.08 or steps.max() > 0.5:
            return None
        if unexplained(a.signature, b.signature, self.layout.box) < self._gradual_novelty:
            return None
        middle = int(np.interp(0.5, np.maximum.accumulate([0.0, *shares, 1.0]), np.linspace(a.index, b.index, 7)))
        return self._transition(middle, a.index + 1, b.index)


@dataclass(slots=True)
class _Dip:
    before: Sample | None
    ramp_first: int
    start_frame: int
    start_s: float
    end_frame: int = 0
    end_s: float = 0.0
    is_blank: bool = False
