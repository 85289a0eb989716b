"""Keeps what was measured at every frame, so that a person can see why a cut was found there or was not."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.keyframes.choosing.cuts import LEAST_STEP, REPEATED_SHARE, Examination, Finding
from services.keyframes.choosing.fades import Gap
from services.keyframes.choosing.history import Sample

if TYPE_CHECKING:
    from services.keyframes.choosing.shots import Shot

COLUMNS = ("frame_index", "time_s", "difference", "novelty", "contrast", "decision", "shot_index", "key_frame")
# What is decided at a frame besides what `Finding` names. The same cut is sometimes found twice, or within a dissolve.
FIRST, REPEATED, CUT_NEAR_ANOTHER = "first", "repeated", "cut near another"
FADE, DISSOLVE = "fade", "dissolve"
NEW_VIEW, SMALL_CHANGE = "new view", "small change"


class Scores:
    """Told by those who search for shots and views what they see; a frame takes about 30 bytes."""

    def __init__(self) -> None:
        self._times_s = array("d")
        self._differences = array("f")
        self._novelties = array("f")
        self._contrasts = array("f")
        self._decisions: list[str] = []
        self._gradual: list[tuple[Gap, str]] = []
        self._views: dict[int, str] = {}

    def add_frame(self, sample: Sample, found: Examination | None) -> None:
        """Learn how a frame was judged; every frame once, in order. found: None for the first one."""
        self._times_s.append(sample.time_s)
        self._differences.append(sample.step)
        self._contrasts.append(sample.contrast)
        self._novelties.append(math.nan if found is None or found.novelty is None else found.novelty)
        self._decisions.append(FIRST if found is None else _word(sample, found.finding))

    def add_gradual(self, gap: Gap, word: str) -> None:
        """Learn of a FADE or a DISSOLVE."""
        self._gradual.append((gap, word))

    def add_view(self, frame_index: int, word: str) -> None:
        """Learn that a shot was seen to have come to show something else: a NEW_VIEW or a SMALL_CHANGE."""
        self._views[frame_index] = word

    def write(self, path: Path, shots: Sequence[Shot], key_frames: Collection[int]) -> None:
        """Write one line per frame as CSV. shots: all of them, in order. key_frames: indices of frames."""
        decisions = self._decisions.copy()
        starts = {shot.start_frame for shot in shots}
        for index, word in enumerate(decisions):
            if word == Finding.CUT and index not in starts:
                decisions[index] = CUT_NEAR_ANOTHER
        for gap, word in self._gradual:
            frames = range(gap.first_frame, min(gap.end_frame, len(decisions)))
            decisions[frames.start : frames.stop] = [word] * len(frames)
        for index, word in self._views.items():
            decisions[index] = word
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(COLUMNS)
            for shot_index, shot in enumerate(shots):
                for index in range(shot.start_frame, min(shot.end_frame, len(decisions))):
                    novelty = self._novelties[index]
                    lines.writerow(
                        (
                            index,
                            f"{self._times_s[index]:.3f}",
                            f"{self._differences[index]:.2f}",
                            "" if math.isnan(novelty) else f"{novelty:.3f}",
                            f"{self._contrasts[index]:.2f}",
                            decisions[index],
                            shot_index,
                            "yes" if index in key_frames else "",
                        )
                    )


def _word(sample: Sample, finding: Finding) -> str:
    if finding is Finding.SMALL_STEP and sample.step < REPEATED_SHARE * LEAST_STEP:
        return REPEATED
    return finding.value
