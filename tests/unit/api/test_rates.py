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


def test_who_is_refused_while_the_counts_are_thrown_away_is_told_to_come_back_at_once(clock, monkeypatch):
    counting = Rates(10, 0)
    assert allowed(counting, "a", 10) == 10
    hit = counting._counter.hit

    def hit_and_clear(*arguments) -> bool:
        let_through = hit(*arguments)
        for name in list(counting._counts.expirations):
            counting._counts.clear(name)
        return let_through

    monkeypatch.setattr(counting._counter, "hit", hit_and_clear)
    with pytest.raises(TooMany) as refused:
        counting.count_request("a")
    assert refused.value.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("addresses", "is_one"),
    [
        (("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"), True),
        (("2001:db8:1:2::1", "2001:db8:1:3::1"), False),
        (("fe80::1%eth0", "fe80::2%eth0"), True),
        (("192.0.2.1", "::ffff:192.0.2.1"), True),
        (("192.0.2.1", "192.0.2.2"), False),
        (("::ffff:192.0.2.1", "::ffff:192.0.2.2"), False),
        (("", "unix"), False),
    ],
)
def test_wrong_keys_are_counted_by_what_a_client_cannot_change_at_will(addresses, is_one):
    counting = Rates(0, 1)
    counting.count_wrong_key(addresses[0])
    if is_one:
        with pytest.raises(TooMany):
            counting.count_wrong_key(addresses[1])
    else:
        counting.count_wrong_key(addresses[1])
