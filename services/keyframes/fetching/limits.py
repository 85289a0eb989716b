"""How much of everything one fetch may use; the same limits for files and for sites."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FetchLimits:
    """max_redirects: hops followed after the first request.
    connect_timeout_s, read_timeout_s: for one connection attempt (DNS apart) and for one wait on the other side.
    total_timeout_s: for the whole fetch, however lively the connection.
    max_duration_s: a video known to be longer is not downloaded; sites tell, files are judged when decoded.
    max_height_lines: sites are asked for the best picture within this many lines (of the shorter side).
    max_memory_bytes: of the process that reads a site's pages, and of its JavaScript runtime.
    """

    max_bytes: int
    max_redirects: int
    connect_timeout_s: float
    read_timeout_s: float
    total_timeout_s: float
    max_duration_s: float
    max_height_lines: int = 480
    max_memory_bytes: int = 2 * 1024**3
