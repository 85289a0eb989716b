"""Where the points and ticks of a line chart go: pure, drawn by a template as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 720, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 704, 14, 232
Y_TICKS = 4
#: Between two labels below the chart.
X_LABEL_WIDTH = 36


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

    evidence: rows with `n_clusters` and `silhouette`, ascending. The numbers of clusters are on a logarithmic scale.
    """
    rows = [(int(row["n_clusters"]), float(row["silhouette"])) for row in evidence if row.get("silhouette") is not None]
    if len(rows) < 2:
        return None
    low, high = min(value for _, value in rows), max(value for _, value in rows)
    extent = (high - low) or 1.0
    first, last = math.log(rows[0][0]), math.log(rows[-1][0])

    def x(n_clusters: int) -> float:
        return round(LEFT + (math.log(n_clusters) - first) / (last - first) * (RIGHT - LEFT), 1)

    def y(value: float) -> float:
        return round(BOTTOM - (value - low) / extent * (BOTTOM - TOP), 1)

    points = tuple(Point(n_clusters, x(n_clusters), y(value)) for n_clusters, value in rows)
    levels = [low + extent * i / (Y_TICKS - 1) for i in range(Y_TICKS)]
    return Chart(
        points=points,
        x_ticks=tuple(_labels(points)),
        y_ticks=tuple((y(level), f"{level:.2f}") for level in levels),
    )


def _labels(points: Sequence[Point]) -> list[tuple[float, str]]:
    """Labels of those points that leave room for one."""
    labels: list[tuple[float, str]] = []
    for point in points:
        if not labels or point.x - labels[-1][0] >= X_LABEL_WIDTH:
            labels.append((point.x, str(point.n_clusters)))
    return labels
