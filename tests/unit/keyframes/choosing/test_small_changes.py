from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from services.keyframes.choosing.novelty import WHOLE
from services.keyframes.choosing.selection import KeyFrameChooser
from services.keyframes.choosing.signatures import signature
from services.keyframes.choosing.small_changes import differ_in_text, small_luma
from services.keyframes.reading.frames import Frame

RATE_HZ = 10
Gray = NDArray[np.uint8]
Over = Callable[[Gray, float], None]


def page(*lines: str, ink: int = 30, paper: int = 245) -> Gray:
    """A page of text; uint8 (360, 640)."""
    picture = np.full((360, 640), paper, np.uint8)
    picture[:30] = 90
    for row, line in enumerate(lines):
        cv2.putText(picture, line, (50, 80 + 32 * row), cv2.FONT_HERSHEY_DUPLEX, 0.6, ink, 1, cv2.LINE_AA)
    return picture


def frame(index: int, picture: Gray, rate_hz: float) -> Frame:
    decoded = VideoFrame.from_ndarray(picture, "gray").reformat(format="yuv420p")
    return Frame(index, index / rate_hz, (index + 1) / rate_hz, index, index == 0, False, decoded)


def picked_s(states: Sequence[tuple[Gray, float]], over: Over | None = None, rate_hz: float = RATE_HZ) -> list[float]:
    """The times of the key frames of a shot that shows these states for so many seconds each."""
    chooser = KeyFrameChooser(0.5, 1)
    index, picks = 0, []
    for picture, seconds in states:
        for _ in range(round(seconds * rate_hz)):
            shown = picture.copy()
            if over:
                over(shown, index / rate_hz)
            seen = frame(index, shown, rate_hz)
            chooser.feed(seen, signature(seen.picture), WHOLE)
            chooser.settle(index - 3)
            picks += chooser.take_chosen()
            index += 1
    chooser.finish()
    return sorted(pick.frame.time_s for pick in picks + chooser.take_chosen())


def states_shown(times_s: Sequence[float], states: Sequence[tuple[Gray, float]]) -> list[int]:
    ends = np.cumsum([seconds for _, seconds in states])
    return [int(np.searchsorted(ends, time_s, side="right")) for time_s in times_s]


SLIDES = [
    page("the gradient of a sum", "is the sum of gradients"),
    page("a batch is a sample", "of the whole data set"),
    page("momentum remembers", "where it came from"),
]
BULLETS = [
    page("what we found", *["- another point here", "- and one more of them", "- the last of all"][:n])
    for n in range(4)
]


@pytest.mark.parametrize("seconds", [1.5, 4.0])
@pytest.mark.parametrize("is_dark", [False, True])
def test_each_slide_of_a_template_is_a_view(seconds: float, is_dark: bool) -> None:
    states = [(255 - slide if is_dark else slide, seconds) for slide in SLIDES]
    assert states_shown(picked_s(states), states) == [0, 1, 2]


def test_each_slide_is_a_view_where_one_frame_holds_it() -> None:
    states = [(slide, 2.0) for slide in SLIDES]
    assert states_shown(picked_s(states, rate_hz=0.5), states) == [0, 1, 2]


def test_each_bullet_that_stays_is_a_view() -> None:
    states = [(bullet, 3.0) for bullet in BULLETS]
    assert states_shown(picked_s(states), states) == [0, 1, 2, 3]


def test_a_word_added_to_a_line_is_a_view() -> None:
    states = [(page("a line of text", "second line " + word), 4.0) for word in ("", "grows", "grows quickly")]
    assert states_shown(picked_s(states), states) == [0, 1, 2]


def test_a_slide_that_returns_is_remembered() -> None:
    states = [(SLIDES[0], 4.0), (SLIDES[1], 4.0), (SLIDES[0], 4.0)]
    assert states_shown(picked_s(states), states) == [0, 1]


def test_letters_that_are_typed_are_no_views_and_what_is_written_at_last_is_one() -> None:
    text = "for every item in the list of all items"
    typing = [(page("def main", text[:end]), 0.2) for end in range(1, len(text))]
    states = [(page("def main"), 3.0), *typing, (page("def main", text), 3.0)]
    assert states_shown(picked_s(states), states) == [0, len(states) - 1]


def pointer(picture: Gray, time_s: float) -> None:
    """Goes on every two seconds."""
    x, y = 60 + 97 * int(time_s / 2) % 500, 90 + 61 * int(time_s / 2) % 220
    cv2.fillPoly(picture, [np.array([(x, y), (x, y + 18), (x + 11, y + 13)], np.int32)], 0)


def clock(picture: Gray, time_s: float) -> None:
    cv2.putText(picture, f"12:34:{int(time_s):02d}", (540, 350), cv2.FONT_HERSHEY_DUPLEX, 0.5, 20, 1, cv2.LINE_AA)


def ticker(picture: Gray, time_s: float) -> None:
    picture[330:] = 30
    text = "news of the day and of the night " * 8
    cv2.putText(picture, text, (20 - round(60 * time_s), 351), cv2.FONT_HERSHEY_DUPLEX, 0.6, 250, 1, cv2.LINE_AA)


def presenter(picture: Gray, time_s: float) -> None:
    """Moves in a corner, and rests for two seconds of every nine."""
    moved_s = time_s - max(0.0, time_s % 9 - 7)
    corner = picture[260:, 540:]
    corner[:] = 120
    x, y = 50 + round(10 * np.sin(2 * moved_s)), 45 + round(6 * np.sin(3 * moved_s))
    cv2.circle(corner, (x, y), 22, 200, -1)
    cv2.circle(corner, (x - 8, y - 5), 3, 30, -1)
    cv2.circle(corner, (x + 8, y - 5), 3, 30, -1)
    cv2.ellipse(corner, (x, y + 10), (8, 2 + int(moved_s * 7) % 5), 0, 0, 360, 60, -1)


def grain(picture: Gray, time_s: float) -> None:
    noise = np.random.default_rng(round(time_s * 1000)).normal(0, 6, picture.shape)
    picture[:] = np.clip(picture * 0.9 + 12 + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("over", [pointer, clock, ticker, presenter, grain])
def test_what_moves_on_a_still_page_is_no_view(over: Over) -> None:
    assert len(picked_s([(SLIDES[0], 20.0)], over)) == 1


@pytest.mark.parametrize("over", [pointer, clock, ticker, presenter, grain])
def test_slides_are_views_whatever_moves_on_them(over: Over) -> None:
    states = [(slide, 5.0) for slide in SLIDES]
    assert states_shown(picked_s(states, over), states) == [0, 1, 2]


def test_another_brightness_is_no_other_text() -> None:
    of = [small_luma(frame(0, picture, RATE_HZ).picture) for picture in (SLIDES[0], SLIDES[0] - 20, SLIDES[1])]
    assert not differ_in_text(of[0], of[1])
    assert differ_in_text(of[0], of[2])


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (640, 360), (66, 50), (16, 16), (4, 320)])
def test_details_have_a_bounded_size(width: int, height: int) -> None:
    picture = VideoFrame.from_ndarray(np.full((height, width), 90, np.uint8), "gray").reformat(format="yuv420p")
    luma = small_luma(picture)
    assert luma.shape[1] <= 640
    assert luma.shape[0] % 8 == luma.shape[1] % 8 == 0
