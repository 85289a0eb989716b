"""When each frame is shown, in seconds since the start of its stream, out of timestamps that may be missing or jump."""

from __future__ import annotations

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
    frame_s: the nominal duration of a frame, used where a timestamp is missing.
    may_jump: whether the container's clock can be set anew within the file (MPEG-TS, MPEG-PS).
    """

    def __init__(self, time_base: Fraction, start_ticks: int | None, frame_s: Fraction, may_jump: bool) -> None:
        self.time_base = time_base
        self.frame_s = frame_s
        self._start_ticks = start_ticks
        self._may_jump = may_jump
        self._offset_s = Fraction(0)
        self._last_s: Fraction | None = None

    def read(self, ticks: int | None) -> Fraction:
        """Return the time in seconds of the next frame, whose timestamp is `ticks` (None: it has none)."""
        last_s = self._last_s
        if ticks is None:
            time_s = Fraction(0) if last_s is None else last_s + self.frame_s
        else:
            if self._start_ticks is None or (last_s is None and ticks < self._start_ticks):
                self._start_ticks = ticks
            time_s = (ticks - self._start_ticks) * self.time_base + self._offset_s
            if last_s is not None:
                step_s = time_s - last_s
                if step_s < -MAX_SLIP_S or (self._may_jump and step_s > MAX_STEP_S):
                    self._offset_s += last_s + self.frame_s - time_s
                    time_s = last_s + self.frame_s
                elif step_s <= 0:
                    time_s = last_s + SLIP_S
        self._last_s = time_s
        return time_s
