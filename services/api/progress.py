"""When a job will be done, from how fast its tasks went so far. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.pipeline import Stage


@dataclass(frozen=True)
class Pace:
    """One stage of one job since it was taken up: its open tasks, how many ended, and the seconds in which they did.

    since_s: from the first claim until now; None: nothing of the stage was claimed yet.
    """

    queued: int = 0
    running: int = 0
    ended: int = 0
    since_s: float | None = None

    @property
    def remaining(self) -> int:
        return self.queued + self.running

    def seconds_for(self, further_tasks: float = 0.0) -> float | None:
        """How long what is open and so many further tasks take at this pace; None when nothing has ended yet.

        The pace is what came out in a time, so it holds how many workers there are and how long they waited. Tasks that
        run are half done on average: without them, the first to end, which are the short ones, would tell for all.
        """
        half_running = self.running / 2
        left = self.queued + half_running + further_tasks
        if not left:
            return 0.0
        if not self.ended or self.since_s is None:
            return None
        return left * self.since_s / (self.ended + half_running)


def eta_s(paces: Mapping[Stage, Pace]) -> float | None:
    """Seconds until nothing is open; None when that cannot be said.

    Key frames and embedding run side by side, so the slower one counts; videos that are still to come bring as many
    embedding tasks as those before. Clustering follows, and is counted only once it has been seen.
    """
    keyframes, embedding, clustering = (
        paces.get(stage, Pace()) for stage in (Stage.KEYFRAMES, Stage.EMBEDDING, Stage.CLUSTERING)
    )
    if not (keyframes.remaining or embedding.remaining):
        return clustering.seconds_for()
    to_come = 0.0
    if keyframes.ended:
        to_come = keyframes.remaining * (embedding.ended + embedding.remaining) / keyframes.ended
    parts = keyframes.seconds_for(), embedding.seconds_for(to_come)
    if parts[0] is None or parts[1] is None:
        return None
    return max(parts[0], parts[1]) + (clustering.seconds_for() or 0.0)
