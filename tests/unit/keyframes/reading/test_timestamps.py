"""Frame times are exact where the stream is right and increase in any case."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.keyframes.reading.timestamps import StreamClock


def clock(start_ticks: int | None = 0, may_jump: bool = False) -> StreamClock:
    return StreamClock(Fraction(1, 1000), start_ticks, Fraction(1, 25), may_jump)


def read(clock: StreamClock, ticks: list[int | None]) -> list[float]:
    return [clock.read(tick, None)[0] for tick in ticks]


def test_a_time_is_the_timestamp_since_the_streams_start() -> None:
    assert read(clock(500), [500, 533, 700]) == [0, 0.033, 0.2]


def test_a_frame_ends_after_its_own_duration_or_the_nominal_one() -> None:
    timer = clock()

    assert timer.read(0, 33) == (0, 0.033)
    assert timer.read(40, 0) == (0.04, 0.08)


def test_a_stream_that_declares_no_start_begins_with_its_first_frame() -> None:
    assert read(clock(None), [90, 130]) == [0, 0.04]


def test_a_first_frame_before_the_declared_start_is_the_start() -> None:
    assert read(clock(80), [0, 40]) == [0, 0.04]


def test_a_stream_whose_first_frames_cannot_be_read_keeps_its_start() -> None:
    assert read(clock(0), [400, 440]) == [0.4, 0.44]


def test_frames_without_timestamps_follow_at_the_nominal_rate_without_adding_up_rounding() -> None:
    thirds = StreamClock(Fraction(1, 1000), None, Fraction(1, 30), may_jump=False)

    assert read(thirds, [None] * 3001)[-1] == 100


def test_a_missing_timestamp_between_others_is_filled_in() -> None:
    assert read(clock(), [0, None, 80]) == [0, 0.04, 0.08]


@pytest.mark.parametrize("slip", [100, 60, 0])
def test_a_repeated_or_backward_timestamp_moves_only_its_own_frame(slip: int) -> None:
    assert read(clock(), [0, 100, slip, 200]) == [0, 0.1, 0.100001, 0.2]


@pytest.mark.parametrize("restart", [0, 3_600_000])
def test_a_clock_set_anew_in_a_broadcast_stream_goes_on_without_a_gap(restart: int) -> None:
    assert read(clock(may_jump=True), [20_000, 20_040, restart, restart + 40]) == [20, 20.04, 20.08, 20.12]


def test_a_clock_set_back_goes_on_in_any_container() -> None:
    assert read(clock(), [20_000, 20_040, 0, 40]) == [20, 20.04, 20.08, 20.12]


def test_a_long_pause_in_other_containers_is_a_pause() -> None:
    assert read(clock(), [0, 60_000]) == [0, 60]
