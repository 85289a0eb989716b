"""When a job will be done, from how fast its tasks went so far. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.pipeline import Stage


@dataclass(frozen=True)
class Pace:
    """One stage of one job: its tasks by state, and the mean seconds of those that succeeded (None: none did)."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    mean_s: float | None = None

    @property
    def remaining(self) -> int:
        return self.queued + self.running

    def seconds_for(self, tasks: float) -> float | None:
        """How long so many tasks take at this pace; None when nothing has been seen yet."""
        if not tasks:
            return 0.0
        return None if self.mean_s is None else tasks * self.mean_s / max(1, self.running)


def eta_s(paces: Mapping[Stage, Pace]) -> float | None:
    """Seconds until nothing is open; None when that cannot be said.

    Key frames and embedding run side by side, so the slower one counts; videos that are still to come bring as many
    embedding tasks as those before. Clustering follows, and is counted only once it has been seen.
    """
    keyframes, embedding, clustering = (
        paces.get(stage, Pace()) for stage in (Stage.KEYFRAMES, Stage.EMBEDDING, Stage.CLUSTERING)
    )
    if not (keyframes.remaining or embedding.remaining):
        return clustering.seconds_for(clustering.remaining)
    to_come = 0.0
    if keyframes.succeeded:
        per_video = (embedding.succeeded + embedding.remaining) / keyframes.succeeded
        to_come = keyframes.remaining * per_video
    parts = keyframes.seconds_for(keyframes.remaining), embedding.seconds_for(embedding.remaining + to_come)
    if parts[0] is None or parts[1] is None:
        return None
    return max(parts[0], parts[1]) + (clustering.seconds_for(clustering.remaining) or 0.0)
