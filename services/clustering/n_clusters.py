"""The parameter that most algorithms have: how many clusters."""

from __future__ import annotations

from typing import Literal

# A number; "auto": chosen by silhouette, with the evidence kept; None: `sweep.default_n_clusters`.
NClusters = int | Literal["auto"] | None

#: More than anybody can look at.
MOST_CLUSTERS = 100_000
