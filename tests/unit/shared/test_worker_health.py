"""When a worker counts as deaf."""

from __future__ import annotations

import pytest

from shared.worker_health import LONGEST_GAP_S, StallJudge


@pytest.fixture
def judge() -> StallJudge:
    return StallJudge(stall_after_s=20)


def seconds_until_deaf(judge: StallJudge, *, waiting=1, busy=False, received=lambda now: 7, every_s=5) -> int | None:
    """When the judge says so, within ten minutes. The arguments: values, or functions of the second."""
    for now in range(0, 600, every_s):
        values = {"waiting": waiting, "busy": busy, "received": received}
        if judge.look(now, **{name: value(now) if callable(value) else value for name, value in values.items()}):
            return now
    return None


def test_idle_with_messages_waiting_all_the_time_is_deaf(judge):
    assert seconds_until_deaf(judge) == 20


def test_nothing_waiting_is_peace(judge):
    assert seconds_until_deaf(judge, waiting=0) is None


def test_a_redis_that_does_not_answer_says_nothing(judge):
    assert seconds_until_deaf(judge, waiting=lambda now: None if now % 20 == 15 else 3) is None


def test_a_busy_worker_is_not_deaf(judge):
    assert seconds_until_deaf(judge, busy=True) is None
    assert seconds_until_deaf(StallJudge(20), busy=lambda now: now <= 100) == 120


def test_a_worker_that_receives_now_and_then_is_not_deaf(judge):
    assert seconds_until_deaf(judge, received=lambda now: now // 20) is None


def test_a_queue_that_others_empty_in_between_is_no_reason(judge):
    assert seconds_until_deaf(judge, waiting=lambda now: 0 if now % 15 == 0 else 5) is None


def test_time_in_which_the_process_stood_still_does_not_count():
    judge = StallJudge(stall_after_s=20)
    assert not judge.look(0, waiting=1, busy=False, received=0)
    assert not judge.look(5, waiting=1, busy=False, received=0)
    assert not judge.look(5 + LONGEST_GAP_S + 1, waiting=1, busy=False, received=0)
