"""What every format of exports must do; each file in services/exports/formats is found and tried."""

from __future__ import annotations

import importlib
import itertools
import re
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Iterator

import pytest

from services.exports.rows import Row
from shared import catalog

pytestmark = pytest.mark.parametrize("name", catalog.formats())

PICTURE = b"\xff\xd8" + bytes(range(256)) * 40 + b"\xff\xd9"


def load(name: str):
    return importlib.import_module(f"services.exports.formats.{name}")


def rows(n: int, **changes) -> Iterator[Row]:
    for number in range(n):
        values = {
            "key_frame_id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
            "video_id": str(uuid.uuid5(uuid.NAMESPACE_OID, "video")),
            "title": "A film",
            "source_url": "https://films.example/a.mp4",
            "time_s": number * 0.04,
            "frame_index": number,
            "width_px": 960,
            "height_px": 540,
            "cluster": number % 3 - 1,
            "distance": None if number % 3 == 0 else 0.25,
            "picture": PICTURE,
        }
        yield Row(**{**values, **changes})


def test_it_says_what_it_is(name):
    format_ = catalog.formats()[name]
    assert format_.title and format_.title == load(name).TITLE
    assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", format_.media_type)
    assert re.fullmatch(r"(\.[a-z0-9]+)+", format_.suffix)
    assert type(load(name).NEEDS_PICTURES) is bool
    assert load(name).MOST_KEY_FRAMES is None or load(name).MOST_KEY_FRAMES >= 100_000


def test_the_same_rows_make_the_same_bytes(name):
    first, second = (b"".join(load(name).write(rows(7))) for _ in range(2))
    assert first == second and len(first) > 0


def test_it_begins_before_it_has_seen_the_end(name):
    """An endless export gives its first blocks all the same, so nothing is gathered first."""
    endless = load(name).write(rows(10**12))
    assert sum(len(block) for block in itertools.islice(endless, 300)) > 300 * 100


def test_ten_times_the_rows_take_no_more_memory(name):
    """But for the index that a ZIP has at its end: some hundred bytes a picture, where a picture has thousands."""

    def peak_bytes(n: int) -> int:
        tracemalloc.start()
        try:
            for block in load(name).write(rows(n)):
                assert len(block) < 1 << 20
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(10)  # imports
    assert peak_bytes(2000) - peak_bytes(200) < 1800 * 1500


@pytest.mark.parametrize(
    "changes",
    [
        {"title": None},
        {"title": None, "source_url": None},
        {"title": '\x1b[31m\u202egpj.\x00/../..\\CON:*?"<>|\r\n\u2028' * 20},
        {"title": "=cmd|'/c calc'!A1", "source_url": "upload:" + "ab" * 20},
        {"title": "映画 🎬", "time_s": 360_000.0},
        {"time_s": -0.5, "distance": 1e-30},
        {"distance": 3.4e38, "cluster": 123_456},
        {"cluster": None, "distance": None},
    ],
)
def test_whatever_others_call_their_videos_it_is_written(name, changes):
    assert b"".join(load(name).write(rows(3, **changes)))


def test_the_catalog_lists_it_without_heavy_libraries(name):
    """The API lists formats and does not have what other services have."""
    code = (
        "import sys; from shared import catalog; "
        f"assert {name!r} in catalog.formats(); "
        "print([m for m in ('numpy', 'cv2', 'sklearn', 'torch', 'PIL', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
