"""How pages and commands write numbers, times and names. Pure; templates use these as filters."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


def clock(time_s: float) -> str:
    """A moment of a video, to the tenth below: 0:12.3, 1:02:03.4."""
    tenths = math.floor(round(time_s * 10, 3))
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def span(duration_s: float) -> str:
    """How long something took or takes: 8 s, 2 min 5 s, 3 h 20 min."""
    seconds = max(0, round(duration_s))
    if seconds < MINUTE_S:
        return f"{seconds} s"
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S} min {seconds % MINUTE_S} s"
    return f"{seconds // HOUR_S} h {seconds % HOUR_S // MINUTE_S} min"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago, or the date when that says more. `now`: the present when left out."""
    age_s = ((now or datetime.now(UTC)) - moment).total_seconds()
    if age_s < MINUTE_S:
        return "just now"
    if age_s < HOUR_S:
        return f"{int(age_s // MINUTE_S)} min ago"
    if age_s < DAY_S:
        return f"{int(age_s // HOUR_S)} h ago"
    return moment.astimezone(UTC).strftime("%-d %b %Y")


def stamp(moment: datetime) -> str:
    """A moment in full: 2026-05-04 12:30:05 UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def number(value: int) -> str:
    """48,210."""
    return f"{value:,}"


def count(value: int, one: str, many: str = "") -> str:
    """1 video, 48,210 videos."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def percent(part: float | None) -> str:
    """A part from 0 to 1 as 99.2 %, rounded down so that only all of it is 100 %; nothing where there is no part."""
    if part is None:
        return ""
    tenths = math.floor(round(part * 1000, 6))
    return f"{tenths // 10} %" if tenths % 10 == 0 else f"{tenths / 10:.1f} %"


def measure(value: float) -> str:
    """A quality or a distance: three places, none where they no longer matter."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def size(size_bytes: int) -> str:
    """1.5 GB, 640 kB, 12 bytes: decimal, as disks are sold."""
    for unit, of_bytes in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= of_bytes:
            return f"{size_bytes / of_bytes:.3g} {unit}"
    return count(size_bytes, "byte")


def state(value: str) -> str:
    """A state as people write it."""
    return value.replace("_", " ")


def source_name(title: str | None, url: str) -> str:
    """What a source is called: its title, else the end of its URL."""
    if title:
        return title
    if url.startswith("s3://"):
        return url.rpartition("/")[2]  # letter by letter, as the store has it
    parts = urlsplit(url)
    last = unquote(parts.path.rstrip("/").rsplit("/", 1)[-1])
    return last if "." in last or parts.scheme == "upload" else url


def is_web(url: str) -> bool:
    """Whether a browser may be sent there."""
    return urlsplit(url).scheme in ("http", "https")
