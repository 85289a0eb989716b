"""What is written down about each frame, for every decision there is."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from services.keyframes.choosing.scores import Scores
from services.keyframes.choosing.shots import Shot, ShotDetector
from services.keyframes.choosing.signatures import from_values
from tests.unit.keyframes.choosing.test_shots import BLACK, RATE_HZ, WHITE, Values, hold, mix, pan, still


def scored(pictures: list[Values], path: Path) -> list[dict[str, str]]:
    """The lines written for these pictures."""
    scores = Scores()
    detector = ShotDetector(0.2, 0.45, scores)
    noise = np.random.default_rng(9)
    transitions = []
    for index, picture in enumerate(pictures):
        values = np.clip(picture + noise.normal(0, 0.7, picture.shape), 0, 255).astype(np.uint8)
        transitions += detector.feed(index, index / RATE_HZ, from_values(values))
    transitions += detector.finish()
    ends = [one.start_frame for one in transitions] + [len(pictures)]
    shots = [Shot(start, end, start / RATE_HZ, end / RATE_HZ) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    scores.write(path, shots, {3})
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("pictures", "places", "word"),
    [
        (hold(still(1), 40) + hold(still(2), 40), [40], "cut"),
        (hold(still(1), 40) + hold(WHITE, 1) + hold(still(1), 40), [], "cut"),
        (hold(still(1), 40) + hold(still(2), 1) + mix(still(2), still(1), 3) + hold(still(1), 40), [40], "flash"),
        (hold(still(1), 40) + mix(still(1), still(2), 16) + hold(still(2), 40), [45, 50], "dissolve"),
        (
            hold(still(1), 40)
            + mix(still(1), BLACK, 12)
            + hold(BLACK, 8)
            + mix(BLACK, still(2), 12)
            + hold(still(2), 40),
            [50, 55, 60],
            "fade",
        ),
        (hold(BLACK, 30), [10, 20], "blank"),
    ],
    ids=["cut", "white flash", "flash", "dissolve", "fade", "blank"],
)
def test_the_decision_is_there_in_a_word(pictures: list[Values], places: list[int], word: str, tmp_path: Path) -> None:
    rows = scored(pictures, tmp_path / "scores.csv")

    assert [int(row["frame_index"]) for row in rows] == list(range(len(pictures)))
    assert [rows[place]["decision"] for place in places] == [word] * len(places)
    if word in ("cut", "flash"):
        assert [index for index, row in enumerate(rows) if row["decision"] == word] == places
    assert [index for index, row in enumerate(rows) if row["key_frame"]] == [3]


def test_motion_is_no_cut_and_says_so(tmp_path: Path) -> None:
    rows = scored(pan(1, 60, columns_a_frame=1.5), tmp_path / "scores.csv")

    assert {row["decision"] for row in rows[5:55]} == {"motion"}
    assert {row["shot_index"] for row in rows} == {"0"}
