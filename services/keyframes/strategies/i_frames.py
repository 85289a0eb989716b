"""Takes the frames that the codec stored whole, without decoding the others: fast, and blind to what is shown."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.parameters import Declared, within

if TYPE_CHECKING:
    from services.keyframes.choosing.selection import Outline, Pick
    from services.keyframes.reading.frames import Frame

TITLE = "The codec's I-frames, without decoding the rest"
VERSION = 1
I_FRAMES_ONLY = True
HAS_SCORES = False


@dataclass(frozen=True)
class Parameters(Declared):
    """min_gap_s: the least seconds between two key frames; some codecs store every frame whole."""

    min_gap_s: float = within(0.5, least=0, most=86_400)


def select(frames: Iterator[Frame], parameters: Parameters) -> Generator[Pick, None, Outline]:
    """Yield the undamaged I-frames at least min_gap_s apart, or the last frame if there are none; return one shot."""
    from services.keyframes.choosing.selection import Outline, Pick
    from services.keyframes.choosing.shots import Shot

    picked_s: float | None = None
    last: Frame | None = None
    for frame in frames:
        last = frame
        if not frame.is_i_frame or frame.is_corrupt:
            continue
        if picked_s is None or frame.time_s - picked_s >= parameters.min_gap_s:
            yield Pick(frame, shot_index=0)
            picked_s = frame.time_s
    if last is None:
        return Outline(shots=(), repeats={})
    if picked_s is None:
        yield Pick(last, shot_index=0)
    return Outline(shots=(Shot(0, last.index + 1, 0.0, last.end_s),), repeats={})
