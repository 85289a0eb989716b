"""Finds where a picture fades, or is cut, to a blank and another one comes back: one transition each time."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.keyframes.choosing.history import History, Sample
from services.keyframes.choosing.novelty import new_content
from services.keyframes.choosing.signatures import BLANK_CONTRAST

# The contrast dips when it falls below this share of what it was during the last seconds.
DIP_SHARE = 0.25
# A fade lasts this long at most; a dip that is longer and never blank is a dark shot.
FADE_S = 1.35
# What comes back has this much time to show itself before it is compared.
RETURN_S = 0.5
# A blank this long separates shots even if the same picture comes back.
PAUSE_S = 0.5
# The fade itself ends where the picture has this share of its full contrast.
FULL_SHARE = 0.8


@dataclass(slots=True)
class _Dip:
    """A time of low contrast, from `first` until before `end`.

    before: the samples up to it, oldest first. after: those since its end. blank_s: when it was last blank, or began.
    """

    before: list[Sample]
    first: Sample
    lowest: float
    blank_s: float
    end: Sample | None = None
    after: list[Sample] = field(default_factory=list)

    @property
    def peak(self) -> Sample:
        return max(self.before, key=_contrast)


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames [first_frame, end_frame) that belong to neither of two shots; middle_frame parts them."""

    first_frame: int
    middle_frame: int
    end_frame: int


class FadeDetector:
    """Fed a growing history, tells fades some time after they have ended."""

    def __init__(self, least_novelty: float) -> None:
        self._least_novelty = least_novelty
        self._dip: _Dip | None = None
        self._last_cut = 0
        self._highest = 0.0  # no contrast of the last seconds exceeds this

    @property
    def open_since(self) -> int | None:
        """The first frame that a fade not yet told may touch."""
        return self._dip.before[0].index if self._dip else None

    def feed(self, history: History) -> Gap | None:
        now = history[-1]
        dip = self._dip
        gap = None
        if dip and dip.end:
            if now.time_s <= dip.end.time_s + RETURN_S and now.contrast >= self._least_return(dip):
                dip.after.append(now)
                return None
            gap, dip = self._transition(history, dip), None
        if dip is None:
            dip = self._begun(history)
        elif now.contrast >= self._least_return(dip):
            dip.end = now
            dip.after.append(now)
        elif now.contrast < BLANK_CONTRAST:
            dip.lowest, dip.blank_s = min(dip.lowest, now.contrast), now.time_s
        elif now.time_s > dip.blank_s + FADE_S:
            dip = None
        else:
            dip.lowest = min(dip.lowest, now.contrast)
        self._dip = dip
        return gap

    def cut(self, index: int) -> None:
        """Learn of a cut: what was shown before it has nothing to do with a fade after it."""
        self._last_cut = index
        if self._dip and index <= self._dip.first.index:
            self._dip.before = self._since_cut(self._dip.before)

    def _since_cut(self, samples: list[Sample]) -> list[Sample]:
        return [sample for sample in samples if sample.index >= self._last_cut] or samples[-1:]

    def finish(self, history: History) -> Gap | None:
        """Tell the fade that ended just before the video did."""
        return self._transition(history, self._dip) if self._dip and self._dip.end else None

    def _least_return(self, dip: _Dip) -> float:
        return max(BLANK_CONTRAST, min(DIP_SHARE * dip.peak.contrast, 3 * max(dip.lowest, BLANK_CONTRAST / 2)))

    def _begun(self, history: History) -> _Dip | None:
        now = history[-1]
        self._highest = max(self._highest, now.contrast)
        if now.contrast >= max(BLANK_CONTRAST, DIP_SHARE * self._highest):
            return None
        before = self._since_cut(history.since(now.time_s - FADE_S))
        self._highest = max(map(_contrast, before))
        if now.contrast >= max(BLANK_CONTRAST, DIP_SHARE * self._highest):
            return None
        return _Dip(before, now, now.contrast, now.time_s)

    def _transition(self, history: History, dip: _Dip) -> Gap | None:
        assert dip.end is not None
        back = max(dip.after, key=_contrast)
        if min(dip.peak.contrast, back.contrast) < 1.5 * max(BLANK_CONTRAST, dip.lowest):
            return None
        is_pause = dip.end.time_s - dip.first.time_s >= PAUSE_S
        if not is_pause and new_content(dip.peak.signature, back.signature, history.box) < self._least_novelty:
            return None
        full = [sample.index for sample in dip.before if sample.contrast >= FULL_SHARE * dip.peak.contrast]
        end_frame = next(one.index for one in dip.after if one.contrast >= FULL_SHARE * back.contrast)
        return Gap(full[-1] + 1, (dip.first.index + dip.end.index) // 2, end_frame)


def _contrast(sample: Sample) -> float:
    return sample.contrast
