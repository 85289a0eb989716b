"""The ETA of a job from the pace of its tasks."""

from __future__ import annotations

import pytest

from services.api.progress import Pace, eta_s
from shared.pipeline import Stage


@pytest.mark.parametrize(
    ("paces", "expected_s"),
    [
        ({}, 0),
        ({Stage.KEYFRAMES: Pace(queued=5)}, None),
        ({Stage.KEYFRAMES: Pace(queued=5, running=1)}, None),
        ({Stage.KEYFRAMES: Pace(queued=4, running=2, succeeded=3, mean_s=10)}, 30),
        # Nothing runs just now: one at a time is what can be counted on.
        ({Stage.KEYFRAMES: Pace(queued=4, succeeded=3, mean_s=10)}, 40),
        # Embedding has begun and nothing of it is known yet.
        (
            {
                Stage.KEYFRAMES: Pace(queued=4, running=2, succeeded=3, mean_s=10),
                Stage.EMBEDDING: Pace(queued=3),
            },
            None,
        ),
        # 3 videos brought 6 embedding tasks, so 6 more bring 12: 2 are open, 14 at 5 s are slower than fetching.
        (
            {
                Stage.KEYFRAMES: Pace(queued=4, running=2, succeeded=3, mean_s=10),
                Stage.EMBEDDING: Pace(queued=1, running=1, succeeded=4, mean_s=5),
            },
            70,
        ),
        # Of a round before, it is known how long a clustering takes.
        (
            {
                Stage.KEYFRAMES: Pace(succeeded=3, mean_s=10),
                Stage.EMBEDDING: Pace(queued=1, succeeded=5, mean_s=5),
                Stage.CLUSTERING: Pace(queued=1, succeeded=1, mean_s=8),
            },
            13,
        ),
        ({Stage.KEYFRAMES: Pace(succeeded=3, mean_s=10), Stage.CLUSTERING: Pace(running=1)}, None),
        ({Stage.KEYFRAMES: Pace(succeeded=3, mean_s=10), Stage.EMBEDDING: Pace(succeeded=3, mean_s=1)}, 0),
    ],
)
def test_the_eta_is_that_of_the_slower_stage_and_unknown_where_nothing_was_seen(paces, expected_s):
    assert eta_s(paces) == expected_s
