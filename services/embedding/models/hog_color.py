"""HOG and HSV histograms on a spatial pyramid: an honest baseline that needs no weights.

Input   RGB uint8 (H, W, 3), any size.
Output  float32 (n, 404): 324 for shape, 80 for colour.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.embedding.embedder import Embedder

TITLE = "HOG and colour histograms: no network, no weights, a baseline"
DIMENSION = 404
WEIGHTS = None


def load(weights: Path | None, *, device: str) -> Embedder:
    """Needs no weights and no particular device."""
    from services.embedding.hog_color import HogColor

    return HogColor()
