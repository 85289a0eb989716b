"""The ETA of a job from the pace of its tasks."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator

import pytest

from services.api.progress import Pace, eta_s
from shared.pipeline import Stage


@pytest.mark.parametrize(
    ("paces", "expected_s"),
    [
        ({}, 0),
        ({Stage.KEYFRAMES: Pace(queued=5)}, None),
        ({Stage.KEYFRAMES: Pace(queued=5, running=1, since_s=3)}, None),
        # 3 and two halves in 40 s, so 4 and two halves are left.
        ({Stage.KEYFRAMES: Pace(queued=4, running=2, ended=3, since_s=40)}, 50),
        # Nothing runs just now.
        ({Stage.KEYFRAMES: Pace(queued=4, ended=3, since_s=30)}, 40),
        # Embedding has begun and nothing of it is known yet.
        (
            {
                Stage.KEYFRAMES: Pace(queued=4, running=2, ended=3, since_s=40),
                Stage.EMBEDDING: Pace(queued=3),
            },
            None,
        ),
        # 3 videos brought 6 embedding tasks, so 6 more bring 12: with what is open 13.5 are left, at 4.5 in 30 s.
        (
            {
                Stage.KEYFRAMES: Pace(queued=4, running=2, ended=3, since_s=40),
                Stage.EMBEDDING: Pace(queued=1, running=1, ended=4, since_s=30),
            },
            90,
        ),
        (
            {
                Stage.KEYFRAMES: Pace(ended=3, since_s=30),
                Stage.EMBEDDING: Pace(queued=1, ended=5, since_s=25),
                Stage.CLUSTERING: Pace(queued=1, ended=1, since_s=8),
            },
            13,
        ),
        ({Stage.KEYFRAMES: Pace(ended=3, since_s=10), Stage.CLUSTERING: Pace(running=1, since_s=1)}, None),
        ({Stage.KEYFRAMES: Pace(ended=3, since_s=10), Stage.EMBEDDING: Pace(ended=3, since_s=9)}, 0),
    ],
)
def test_the_eta_is_that_of_the_slower_stage_and_unknown_where_nothing_was_seen(paces, expected_s):
    assert eta_s(paces) == expected_s


def etas(videos: int, readers: int, embedders: int, embedding_s: float, seed: int) -> Iterator[tuple[float, float]]:
    """(what is told, what is true) whenever a video of a job has been read, from the first tenth to the last tenth.

    Videos take lognormal times (the longest some ten times the median) and bring one embedding task each.
    """
    dice = random.Random(seed)
    durations_s = [dice.lognormvariate(0, 0.8) for _ in range(videos)]
    read, embedded = spans(durations_s, [0.0] * videos, readers), []
    embedded = spans([embedding_s] * videos, sorted(end for _, end in read), embedders)
    end_s = max(end for _, end in embedded)
    for now_s in sorted(end for _, end in read)[videos // 10 : -videos // 10]:
        paces = {Stage.KEYFRAMES: pace(read, now_s), Stage.EMBEDDING: pace(embedded, now_s, only_known=read)}
        told_s = eta_s(paces)
        assert told_s is not None
        yield told_s, end_s - now_s


def spans(durations_s: list[float], due_s: list[float], workers: int) -> list[tuple[float, float]]:
    """(start, end) of tasks that so many workers do in turn, none before it is due."""
    free = [0.0] * workers
    done = []
    for duration_s, earliest_s in zip(durations_s, due_s, strict=True):
        start_s = max(heapq.heappop(free), earliest_s)
        done.append((start_s, start_s + duration_s))
        heapq.heappush(free, start_s + duration_s)
    return done


def pace(tasks: list[tuple[float, float]], now_s: float, only_known: list[tuple[float, float]] | None = None) -> Pace:
    ended = sum(end <= now_s for _, end in tasks)
    running = sum(start <= now_s < end for start, end in tasks)
    known = sum(end <= now_s for _, end in only_known) if only_known else len(tasks)
    return Pace(known - ended - running, running, ended, now_s - min(start for start, _ in tasks))


def test_after_a_tenth_the_eta_is_right_within_a_third():
    """Of jobs of 300 videos, read or embedded slower; 95 of 100 answers must be within 30 %."""
    pairs = [
        pair
        for readers in (1, 2, 8)
        for embedding_s in (0.1, 1.0, 3.0)
        for seed in range(5)
        for pair in etas(300, readers, 1, embedding_s, seed)
    ]
    near = sum(abs(told_s - true_s) <= 0.3 * true_s for told_s, true_s in pairs)
    assert near >= 0.95 * len(pairs)
