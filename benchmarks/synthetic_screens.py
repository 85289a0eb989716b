"""Draws what is recorded from screens: decks, chats, editors; and what moves on a screen without being news.

Each recording knows its states: the stretches in which it shows the same for a person who wants to know what is in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Draw = Callable[[Rgb, float], None]
States = Callable[[random.Random], Iterator[tuple[Rgb, float]]]
WORDS = "gradient model vector cluster sample weight token frame motion colour search memory kernel signal river answer"


@dataclass(frozen=True)
class Recording:
    """states: pictures and how many seconds each is shown. over: draws on each frame what is no news.

    expected: how many key frames are right, from and to; None: one for each state.
    """

    name: str
    states: States
    over: Draw | None = None
    expected: tuple[int, int] | None = None
    rate_hz: int = 10
    options: tuple[tuple[str, str], ...] = (("preset", "ultrafast"), ("crf", "26"))


def write_recording(recording: Recording, folder: Path, seed: int) -> tuple[Path, list[tuple[float, float]]]:
    """Write a recording into folder; return its path and [start_s, end_s) of each state."""
    rng = random.Random(seed)
    path = folder / f"{recording.name.replace(' ', '_')}_{seed}.mp4"
    states: list[tuple[float, float]] = []
    index = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=recording.rate_hz, options=dict(recording.options))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, recording.rate_hz)
        for picture, seconds in recording.states(rng):
            start = index
            for _ in range(max(1, round(seconds * recording.rate_hz))):
                shown = picture
                if recording.over:
                    shown = picture.copy()
                    recording.over(shown, index / recording.rate_hz)
                if index == 0:
                    stream.height, stream.width = shown.shape[:2]
                frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, recording.rate_hz)
                container.mux(stream.encode(frame))
                index += 1
            states.append((start / recording.rate_hz, index / recording.rate_hz))
        container.mux(stream.encode(None))
    return path, states


@dataclass(frozen=True)
class Deck:
    """Slides of one template. px: height of a line of text; ink, paper: RGB."""

    width: int = 640
    height: int = 360
    px: int = 18
    ink: tuple[int, int, int] = (30, 30, 40)
    paper: tuple[int, int, int] = (248, 248, 245)

    def blank(self) -> Rgb:
        picture = np.full((self.height, self.width, 3), self.paper, np.uint8)
        cv2.rectangle(picture, (0, 0), (self.width, self.height // 12), (40, 70, 120), -1)
        return picture

    def line(self, picture: Rgb, text: str, row: int, left: int | None = None) -> int:
        """Write a line of text; return where it ends."""
        scale = self.px / 30
        left = self.width // 12 if left is None else left
        top = self.height // 6 + round(row * self.px * 1.8)
        thick = max(1, self.px // 14)
        cv2.putText(picture, text, (left, top + self.px), cv2.FONT_HERSHEY_DUPLEX, scale, self.ink, thick, cv2.LINE_AA)
        return left + cv2.getTextSize(text + " ", cv2.FONT_HERSHEY_DUPLEX, scale, thick)[0][0]

    @property
    def rows(self) -> int:
        return int((self.height * 0.78) / (self.px * 1.8))

    def columns(self) -> int:
        return int(self.width * 0.8 / (self.px * 0.62) / 7)


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS.split()) for _ in range(count))


def slides(deck: Deck, count: int = 8, seconds: float = 4.0, rows: int = 5) -> States:
    def states(rng: random.Random) -> Iterator[tuple[Rgb, float]]:
        for _ in range(count):
            picture = deck.blank()
            for row in range(min(rows, deck.rows)):
                deck.line(picture, words(rng, max(1, deck.columns() - rng.randrange(2))), row)
            yield picture, seconds

    return states


def bullets(deck: Deck, count: int = 6, seconds: float = 3.0) -> States:
    def states(rng: random.Random) -> Iterator[tuple[Rgb, float]]:
        picture = deck.blank()
        deck.line(picture, words(rng, 3), 0)
        yield picture, seconds
        for row in range(1, count):
            picture = picture.copy()
            deck.line(picture, "- " + words(rng, 3), row)
            yield picture, seconds

    return states


def words_added(deck: Deck, count: int = 5, seconds: float = 4.0) -> States:
    def states(rng: random.Random) -> Iterator[tuple[Rgb, float]]:
        picture = deck.blank()
        for row in range(3):
            deck.line(picture, words(rng, deck.columns()), row)
        left = deck.line(picture, words(rng, 1), 4)
        yield picture, seconds
        for _ in range(1, count):
            picture = picture.copy()
            left = deck.line(picture, rng.choice([one for one in WORDS.split() if len(one) >= 5]), 4, left)
            yield picture, seconds

    return states


def chat(deck: Deck, count: int = 10, seconds: float = 3.0) -> States:
    """Each message moves the ones before it up."""

    def states(rng: random.Random) -> Iterator[tuple[Rgb, float]]:
        messages = [(words(rng, rng.randrange(2, 5)), rng.random() < 0.5) for _ in range(deck.rows)]
        for _ in range(count):
            picture = deck.blank()
            for row, (text, mine) in enumerate(messages[-deck.rows :]):
                deck.line(picture, text, row, deck.width // 3 if mine else None)
            yield picture, seconds
            messages.append((words(rng, rng.randrange(2, 5)), rng.random() < 0.5))

    return states


def editor(deck: Deck, lines: int = 6, letters_a_second: float = 8.0, pause_s: float = 0.3) -> States:
    """Code that is typed letter by letter, with a pause after each line."""

    def states(rng: random.Random) -> Iterator[tuple[Rgb, float]]:
        picture = deck.blank()
        for row in range(2):
            deck.line(picture, words(rng, 3), row)
        yield picture, 2.0
        for row in range(2, 2 + lines):
            text = words(rng, 4)
            for end in range(1, len(text) + 1):
                typed = picture.copy()
                deck.line(typed, text[:end], row)
                yield typed, 1 / letters_a_second
            picture = typed
            yield picture, pause_s
        yield picture, 3.0

    return states


def one_state(deck: Deck, seconds: float = 24.0) -> States:
    return slides(deck, 1, seconds)


def pointer(picture: Rgb, time_s: float) -> None:
    """A mouse pointer that goes somewhere, rests for two seconds, and goes on."""
    height, width = picture.shape[:2]
    stops = random.Random(5)
    places = [(stops.randrange(20, width - 20), stops.randrange(40, height - 30)) for _ in range(40)]
    number, share = int(time_s / 2.6), min(1.0, (time_s % 2.6) / 0.6)
    (x0, y0), (x1, y1) = places[number], places[number + 1]
    x, y = round(x0 + (x1 - x0) * share), round(y0 + (y1 - y0) * share)
    size = max(12, height // 30)
    arrow = np.array([(x, y), (x, y + round(size * 1.4)), (x + round(size * 0.8), y + size)], np.int32)
    cv2.fillPoly(picture, [arrow], (255, 255, 255))
    cv2.polylines(picture, [arrow], True, (0, 0, 0), 1, cv2.LINE_AA)


def clock(picture: Rgb, time_s: float) -> None:
    height, width = picture.shape[:2]
    text = f"12:{34 + int(time_s) // 60:02d}:{int(time_s) % 60:02d}"
    scale = height / 720
    cv2.putText(
        picture,
        text,
        (width - round(190 * scale), height - 12),
        cv2.FONT_HERSHEY_DUPLEX,
        scale,
        (200, 40, 40),
        1,
        cv2.LINE_AA,
    )


def ticker(picture: Rgb, time_s: float) -> None:
    height, width = picture.shape[:2]
    text = words(random.Random(9), 60)
    cv2.rectangle(picture, (0, height - 30), (width, height), (20, 20, 80), -1)
    cv2.putText(
        picture,
        text,
        (20 - round(time_s * 60), height - 9),
        cv2.FONT_HERSHEY_DUPLEX,
        0.6,
        (255, 255, 255),
        1,
        cv2.LINE_AA,
    )


def talking_head(picture: Rgb, time_s: float) -> None:
    """A presenter in the lower right corner who moves, and rests now and then."""
    height, width = picture.shape[:2]
    side = height // 4
    left, top = width - side - 8, height - side - 8
    moved_s = time_s - (max(0.0, time_s % 9 - 7) if time_s > 4 else 0.0)
    corner = picture[top : top + side, left : left + side]
    corner[:] = cv2.resize(np.random.default_rng(3).integers(90, 140, (6, 6, 3), np.uint8), (side, side))
    x = side // 2 + round(side * 0.12 * np.sin(moved_s * 2.1))
    y = side // 2 + round(side * 0.06 * np.sin(moved_s * 3.3))
    cv2.ellipse(corner, (x, y + side // 2), (side // 3, side // 3), 0, 0, 360, (60, 70, 120), -1)
    cv2.circle(corner, (x, y), side // 5, (200, 160, 130), -1)
    for eye in (-1, 1):
        cv2.circle(corner, (x + eye * side // 14, y - side // 20), max(2, side // 40), (40, 30, 30), -1)
    cv2.ellipse(corner, (x, y + side // 12), (side // 14, 2 + int(moved_s * 7) % 5), 0, 0, 360, (120, 40, 40), -1)


def noise(picture: Rgb, time_s: float) -> None:
    """A camera films the screen."""
    grain = np.random.default_rng(round(time_s * 1000)).normal(0, 6, picture.shape[:2])
    soft = cv2.GaussianBlur(picture, (0, 0), 0.8)
    picture[:] = np.clip(soft * 0.85 + 15 + grain[..., None], 0, 255).astype(np.uint8)


def all_at_once(*parts: Draw) -> Draw:
    def draw(picture: Rgb, time_s: float) -> None:
        for part in parts:
            part(picture, time_s)

    return draw


LIGHT = Deck()
DARK = Deck(ink=(225, 225, 215), paper=(24, 26, 32))
FULL_HD = Deck(width=1920, height=1080, px=26)
HD = Deck(width=1280, height=720, px=24)
LOW = (("preset", "ultrafast"), ("crf", "36"), ("g", "40"))

RECORDINGS = (
    Recording("deck", slides(LIGHT)),
    Recording("deck light on dark", slides(DARK)),
    Recording("deck at low bitrate", slides(LIGHT), options=LOW),
    Recording("deck in 1080p, small text", slides(FULL_HD, 5, 3.0, 9)),
    Recording("deck filmed by a camera", slides(LIGHT), noise),
    Recording("deck, a slide a second and a half", slides(LIGHT, 10, 1.5)),
    Recording("deck, one frame a second", slides(LIGHT, 8, 3.0), rate_hz=1),
    Recording("deck with a talking head", slides(LIGHT), talking_head),
    Recording("deck with pointer and clock", slides(HD, 6), all_at_once(pointer, clock)),
    Recording("deck with a ticker", slides(LIGHT), ticker),
    Recording("bullet by bullet", bullets(LIGHT)),
    Recording("bullet by bullet, dark", bullets(DARK)),
    Recording("a word added to a line", words_added(LIGHT)),
    Recording("chat", chat(LIGHT)),
    Recording("chat, dark", chat(DARK)),
    Recording("typing", editor(LIGHT), expected=(2, 4)),
    Recording("typing with pauses", editor(DARK, pause_s=1.5), expected=(2, 8)),
    Recording("nothing happens", one_state(LIGHT), expected=(1, 1)),
    Recording("pointer", one_state(LIGHT), pointer, (1, 1)),
    Recording("pointer in 720p", one_state(HD), pointer, (1, 1)),
    Recording("clock", one_state(LIGHT), clock, (1, 1)),
    Recording("ticker", one_state(LIGHT), ticker, (1, 1)),
    Recording("talking head", one_state(LIGHT), talking_head, (1, 1)),
    Recording("noise", one_state(DARK), noise, (1, 1)),
    Recording("nothing at low bitrate", one_state(LIGHT), all_at_once(pointer), (1, 1), options=LOW),
)
