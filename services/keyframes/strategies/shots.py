"""Finds the shots and takes the best frame of each, and further ones where a shot comes to show something new."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.parameters import Declared, within

if TYPE_CHECKING:
    from services.keyframes.choosing.scores import Scores
    from services.keyframes.choosing.selection import Outline, Pick
    from services.keyframes.reading.frames import Frame

TITLE = "The best frame of every shot, and of everything new within it"
VERSION = 3
I_FRAMES_ONLY = False
HAS_SCORES = True


@dataclass(frozen=True)
class Parameters(Declared):
    """What decides how many key frames there are.

    cut_novelty: share of a picture's content that must be new from one frame to the next, beyond what motion brings,
    for a cut. gradual_novelty: the same between the two ends of a dissolve. view_novelty: share of new content in a
    part of the picture from which a shot gets a further key frame; 1 means one key frame a shot.
    duplicate_memory_shots: with how many earlier shots a pick is compared, to drop near-duplicates.
    """

    cut_novelty: float = within(0.2, above=0, most=1)
    gradual_novelty: float = within(0.45, above=0, most=1)
    view_novelty: float = within(0.5, above=0, most=1)
    duplicate_memory_shots: int = within(1, least=0, most=1000)


def select(
    frames: Iterator[Frame], parameters: Parameters, scores: Scores | None = None
) -> Generator[Pick, None, Outline]:
    """Yield the key frames of each shot as soon as they are certain, about two seconds late; return the shots.

    scores: is told what is seen at each frame.
    """
    from services.keyframes.choosing.selection import KeyFrameChooser
    from services.keyframes.choosing.shots import ShotDetector
    from services.keyframes.choosing.signatures import signature

    detector = ShotDetector(parameters.cut_novelty, parameters.gradual_novelty, scores)
    chooser = KeyFrameChooser(parameters.view_novelty, parameters.duplicate_memory_shots, scores)
    for frame in frames:
        seen = signature(frame.picture)
        transitions = detector.feed(frame.index, frame.time_s, seen)
        chooser.feed(frame, seen, detector.box)
        for transition in transitions:
            chooser.end_shot(transition)
        chooser.settle(detector.settled_frame)
        yield from chooser.take_chosen()
    for transition in detector.finish():
        chooser.end_shot(transition)
    outline = chooser.finish()
    yield from chooser.take_chosen()
    return outline
