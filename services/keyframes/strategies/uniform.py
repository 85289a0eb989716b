"""Takes one frame every few seconds, whatever is shown: the plain baseline."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.parameters import Declared, within

if TYPE_CHECKING:
    from services.keyframes.choosing.selection import Outline, Pick
    from services.keyframes.reading.frames import Frame

TITLE = "One frame every few seconds"
VERSION = 1
I_FRAMES_ONLY = False
HAS_SCORES = False


@dataclass(frozen=True)
class Parameters(Declared):
    """every_s: seconds of the stream's own time from one key frame to the next."""

    every_s: float = within(1.0, least=0.01, most=86_400)


def select(frames: Iterator[Frame], parameters: Parameters) -> Generator[Pick, None, Outline]:
    """Yield the first undamaged frame at or after each multiple of every_s; return one shot over all frames."""
    from services.keyframes.choosing.selection import Outline, Pick
    from services.keyframes.choosing.shots import Shot

    due = 0
    last: Frame | None = None
    for frame in frames:
        last = frame
        # A time that is a multiple but for rounding counts as that multiple.
        multiple = math.floor(frame.time_s / parameters.every_s + 1e-9)
        if multiple >= due and not frame.is_corrupt:
            yield Pick(frame, shot_index=0)
            due = multiple + 1
    if last is None:
        return Outline(shots=(), repeats={})
    if due == 0:  # every frame is damaged
        yield Pick(last, shot_index=0)
    return Outline(shots=(Shot(0, last.index + 1, 0.0, last.end_s),), repeats={})
