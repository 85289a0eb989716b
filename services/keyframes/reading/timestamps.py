"""When each frame is shown, in seconds since the start of its stream, out of timestamps that may be missing or jump."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

# FFmpeg's own tools call a step of more than this a break in the clock, not a pause (`-dts_delta_threshold`).
MAX_STEP_S = 10
# A timestamp may lie this far behind its predecessor and still be a slip of the muxer; further, the clock restarted.
MAX_SLIP_S = 1
# Slips are moved just past their predecessor, so that the frames after them keep their exact times.
SLIP_S = Fraction(1, 1_000_000)


class StreamClock:
    """Turns the timestamps of one stream, in presentation order, into strictly increasing seconds.

    time_base: seconds per tick. start_ticks: the stream's declared start, or None to start at the first frame.
    frame_s: the nominal duration of a frame, used where a timestamp or a duration is missing.
    may_jump: whether the container's clock can be set anew within the file (MPEG-TS, MPEG-PS). Long steps of such a
    clock are closed, but for those that end within the same time of one of pauses_ticks, to which may be added.
    """

    def __init__(
        self,
        time_base: Fraction,
        start_ticks: int | None,
        frame_s: Fraction,
        may_jump: bool,
        pauses_ticks: Sequence[int] = (),
    ) -> None:
        self._time_base = time_base
        self._start_ticks = start_ticks
        self._frame_ticks = frame_s / time_base
        self._slip_ticks = SLIP_S / time_base
        self._longest_slip_ticks = math.ceil(MAX_SLIP_S / time_base)
        self._longest_step_ticks = math.ceil(MAX_STEP_S / time_base) if may_jump else math.inf
        self._pauses_ticks = pauses_ticks
        # Positions count ticks from the stream's start: whole ones, so that the common case is fast, until repaired.
        self._offset: int | Fraction = 0
        self._last: int | Fraction | None = None

    def read(self, ticks: int | None, duration_ticks: int | None) -> tuple[float, float]:
        """Return when the next frame begins and ends, in seconds. None or 0: the stream does not say."""
        position = self._position(ticks)
        self._last = position
        return self._seconds(position), self._seconds(position + (duration_ticks or self._frame_ticks))

    def _position(self, ticks: int | None) -> int | Fraction:
        last = self._last
        if ticks is None:
            return 0 if last is None else last + self._frame_ticks
        if self._start_ticks is None or (last is None and ticks < self._start_ticks):
            self._start_ticks = ticks
        position = ticks - self._start_ticks + self._offset
        if last is None or 0 < position - last <= self._longest_step_ticks:
            return position
        if last - self._longest_slip_ticks <= position <= last:
            return last + self._slip_ticks
        if position > last and self._is_pause(ticks):
            return position
        self._offset += last + self._frame_ticks - position
        return last + self._frame_ticks

    def _is_pause(self, ticks: int) -> bool:
        return any(abs(ticks - end) <= self._longest_step_ticks for end in self._pauses_ticks)

    def _seconds(self, position: int | Fraction) -> float:
        return float(position * self._time_base.numerator / self._time_base.denominator)
