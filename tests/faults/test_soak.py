"""A soak can be replayed."""

from __future__ import annotations

import itertools

from tests.faults.soak import Soak, plan


def test_a_seed_is_a_plan():
    assert plan(1, 20) == plan(1, 20)
    assert plan(1, 20) != plan(2, 20)


def test_a_plan_spreads_every_fault_over_its_time():
    planned = plan(1, 20)
    seconds = [at_s for at_s, _ in planned]
    assert seconds == sorted(seconds) and seconds[0] >= 2 and seconds[-1] < 1200
    assert all(1 <= b - a <= 8 for a, b in itertools.pairwise(seconds))
    assert {fault for _, fault in planned} == {name for name in dir(Soak) if name.startswith("fault_")}
