"""One object a line."""

from __future__ import annotations

import json
import uuid

from services.exports.formats import jsonl
from services.exports.rows import Row


def test_a_line_says_where_and_when():
    row = Row(
        key_frame_id=str(uuid.UUID(int=7)),
        video_id=str(uuid.UUID(int=1)),
        title='=A "film"\u2028 日',
        source_url="https://films.example/a.mp4?token=1",
        time_s=62.04,
        frame_index=1551,
        width_px=960,
        height_px=540,
        cluster=4,
        distance=0.1234567890,
    )
    [line] = b"".join(jsonl.write([row])).decode("ascii").splitlines()
    assert json.loads(line) == {
        "file": "pictures/cluster-0004/A-film_00h01m02s040_00000000000000000000000000000007.jpg",
        "video": '=A "film"\u2028 日',
        "source_url": "https://films.example/a.mp4?token=1",
        "time_s": 62.04,
        "frame_index": 1551,
        "cluster": 4,
        "distance": 0.1234568,
        "width_px": 960,
        "height_px": 540,
        "video_id": "00000000-0000-0000-0000-000000000001",
        "key_frame_id": "00000000-0000-0000-0000-000000000007",
    }


def test_no_rows_are_no_lines():
    assert list(jsonl.write([])) == []
