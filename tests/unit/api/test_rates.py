"""Counting requests in memory."""

from __future__ import annotations

import threading

import pytest

from services.api import rates
from services.api.problems import TooMany
from services.api.rates import Rates


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """The time that the counters see, which stands still until it is set on."""

    class Clock:
        now = 1_000_000_020.0

        def time(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(rates, "time", clock)
    monkeypatch.setattr("limits.storage.memory.time", clock)
    monkeypatch.setattr("limits.strategies.time", clock)
    return clock


def allowed(counting: Rates, who: str, tries: int) -> int:
    """How many of so many requests are let through."""
    done = 0
    for _ in range(tries):
        try:
            counting.count_request(who)
        except TooMany:
            continue
        done += 1
    return done


def test_a_minute_holds_so_many_and_the_next_one_as_many_again(clock):
    counting = Rates(10, 0)
    assert allowed(counting, "a", 15) == 10
    assert allowed(counting, "b", 3) == 3
    clock.now += 121
    assert allowed(counting, "a", 15) == 10


def test_who_was_refused_is_let_in_when_the_time_that_was_said_is_over(clock):
    counting = Rates(10, 0)
    assert allowed(counting, "a", 10) == 10
    for later_s in (0, 17, 3, 59, 31, 60, 5):
        clock.now += later_s
        allowed(counting, "a", 10)
        with pytest.raises(TooMany) as refused:
            counting.count_request("a")
        wait_s = int(refused.value.headers["Retry-After"])
        assert 1 <= wait_s <= 61
        clock.now += wait_s
        assert allowed(counting, "a", 1) == 1


def test_zero_is_no_limit():
    assert allowed(Rates(0, 0), "a", 100) == 100


def test_counting_starts_no_thread_and_keeps_no_more_than_it_may(clock, monkeypatch):
    monkeypatch.setattr(rates, "MAX_COUNTS", 50)
    counting = Rates(10, 5)
    threads = threading.active_count()
    for number in range(500):
        counting.count_wrong_key(f"192.0.2.{number}")
        assert len(counting._counts.expirations) <= 51
    assert threading.active_count() <= threads


def test_old_counts_go_before_those_that_still_hold(clock, monkeypatch):
    monkeypatch.setattr(rates, "MAX_COUNTS", 50)
    counting = Rates(10, 5)
    for number in range(50):
        counting.count_wrong_key(f"192.0.2.{number}")
    clock.now += 121
    assert allowed(counting, "a", 10) == 10
    assert len(counting._counts.expirations) < 50
    assert allowed(counting, "a", 1) == 0
