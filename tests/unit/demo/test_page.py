"""The page that the demo writes: complete with its pictures, and nothing in it that a name could break."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from services.clustering.quality import Agreement
from services.demo.page import ModelResult, write_page

NAME = "<b>holiday</b> & more.mp4"


def key_frame(number: int) -> dict[str, Any]:
    return {
        "id": f"k{number}",
        "time_s": 61.5,
        "video_id": "v",
        "image": f"/image/{number}",
        "small_image": f"/image/{number}?size=small",
        "sources": [{"title": NAME, "url": "upload:1"}],
    }


def page_of(folder: Path, **changes: Any) -> str:
    frames = [key_frame(number) for number in range(6)]
    cluster = {"label": 0, "size": 6, "videos": 1, "medoid": frames[1], "nearest": frames}
    clustering = {
        "model": "hog_color",
        "n_clusters_used": 1,
        "key_frames": 6,
        "settings": {"algorithm": "kmeans"},
        "seed": 0,
        "silhouette": None,
        "notes": ["A note."],
    }
    result = {"clustering": clustering, "clusters": [cluster], "names": {}, "agreement": None, **changes}
    failed = {"title": None, "url": "https://a.example/<x>", "error": {"message": "It is gone."}}
    job = {"name": NAME, "videos": 1, "frames": 12345, "key_frames_count": 6, "reduction": 0.98765}
    page = write_page(folder, job, [ModelResult(**result)], [failed], lambda url: url.encode())
    return page.read_text()


def test_every_picture_of_the_page_is_beside_it(tmp_path: Path) -> None:
    html = page_of(tmp_path)
    pictures = re.findall(r'<img src="([^"]+)"', html)
    assert pictures == [f"pictures/k{name}.jpg" for name in ("1-full", "0-small", "2-small", "3-small", "4-small")]
    assert (tmp_path / "pictures/k1-full.jpg").read_bytes() == b"/image/1"
    assert (tmp_path / "pictures/k0-small.jpg").read_bytes() == b"/image/0?size=small"
    assert "http" not in html.replace("https://a.example", "")


def test_names_are_text_and_numbers_are_readable(tmp_path: Path) -> None:
    html = page_of(tmp_path)
    assert "<b>holiday" not in html
    assert "&lt;b&gt;holiday&lt;/b&gt; &amp; more.mp4 at 1:01.5" in html
    assert "https://a.example/&lt;x&gt;" in html
    assert "It is gone." in html
    assert "12,345" in html
    assert "98.7 %" in html


def test_where_the_truth_is_known_clusters_have_its_names(tmp_path: Path) -> None:
    assert "Cluster 0" in page_of(tmp_path)
    html = page_of(tmp_path, names={0: "astronaut"}, agreement=Agreement(0.9, 0.8, 0.7))
    assert "Astronaut" in html
    assert "purity 0.90" in html
