"""Where the points and ticks of a line chart go: pure, drawn by a template as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 720, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 704, 14, 232
Y_TICKS, X_TICKS = 4, 8


@dataclass(frozen=True)
class Point:
    """One value of k, in units of the drawing; y grows downwards."""

    n_clusters: int
    x: float
    y: float


@dataclass(frozen=True)
class Chart:
    """A curve with its ticks: (position, label)."""

    points: tuple[Point, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT


def silhouette_chart(evidence: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Silhouette over the number of clusters; None when fewer than two numbers have one.

    evidence: rows with `n_clusters` and `silhouette`, ascending. Numbers are spread evenly, as they were tried.
    """
    rows = [(row["n_clusters"], row["silhouette"]) for row in evidence if row.get("silhouette") is not None]
    if len(rows) < 2:
        return None
    low, high = min(value for _, value in rows), max(value for _, value in rows)
    extent = (high - low) or 1.0
    step = (RIGHT - LEFT) / (len(rows) - 1)

    def y(value: float) -> float:
        return round(BOTTOM - (value - low) / extent * (BOTTOM - TOP), 1)

    points = tuple(Point(k, round(LEFT + i * step, 1), y(value)) for i, (k, value) in enumerate(rows))
    every = -(-len(rows) // X_TICKS)
    levels = [low + extent * i / (Y_TICKS - 1) for i in range(Y_TICKS)]
    return Chart(
        points=points,
        x_ticks=tuple((point.x, str(point.n_clusters)) for point in points[::every]),
        y_ticks=tuple((y(level), f"{level:.2f}") for level in levels),
    )
