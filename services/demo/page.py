"""Writes what a job found as a page with its pictures: a folder to open, keep or send, which needs no server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from services.client import Json
from services.clustering.quality import Agreement
from services.command_line.explore import video_and_time
from shared.wording import clock, percent

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class ModelResult:
    """One model's clustering with its clusters, as the API gives them.

    names: what the members of a cluster mostly show, by label; empty where no truth is known.
    agreement: with the truth, where it is known.
    """

    clustering: Json
    clusters: Sequence[Json]
    names: dict[int, str]
    agreement: Agreement | None


def write_page(
    folder: Path,
    job: Json,
    results: Sequence[ModelResult],
    failed_sources: Sequence[Json],
    fetch_picture: Callable[[str], bytes],
) -> Path:
    """Write `index.html` and `pictures/` into `folder`.

    fetch_picture: the bytes of the picture at the address that the API gives as `image` or `small_image`.
    Returns the page's path.
    """
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)

    def keep(key_frame: Json, size: str) -> str:
        """Save a picture once; its address relative to the page."""
        path = pictures / f"{key_frame['id']}-{size}.jpg"
        if not path.exists():
            path.write_bytes(fetch_picture(key_frame["image" if size == "full" else "small_image"]))
        return f"{pictures.name}/{path.name}"

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(percent=percent, clock=clock, video_and_time=video_and_time)
    page = folder / "index.html"
    page.write_text(
        environment.get_template("page.html").render(
            job=job, results=results, failed_sources=failed_sources, keep=keep
        ),
        encoding="utf-8",
    )
    return page
