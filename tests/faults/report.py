"""Runs faults one after the other on one scene and tells of each in one line."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from tests.faults.catalog import broker, clocks, database, jobs, object_store, submission, workers
from tests.faults.installation import Broken
from tests.faults.scene import FAULTS, Fault, NotHere, Scene

__all__ = ["FAULTS", "Line", "broker", "clocks", "database", "jobs", "object_store", "run", "submission", "workers"]


@dataclass(frozen=True)
class Line:
    """What became of one fault.

    recovery_s: see the fault's `measures`. attempts: the most that a task took while it was on. verdict: survived, or
    what broke, or why this machine cannot do it.
    """

    id: str
    injected: str
    seed: int
    measures: str
    recovery_s: float | None
    attempts: int | None
    took_s: float
    verdict: str

    @property
    def is_survived(self) -> bool:
        return self.verdict == "survived"

    @property
    def is_broken(self) -> bool:
        return self.verdict.startswith("BROKEN")

    @property
    def is_not_here(self) -> bool:
        return self.verdict.startswith("not on this machine")

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.id:4} seed {self.seed}: {self.injected}"]
        if self.recovery_s is not None:
            parts.append(f"{self.measures}: {self.recovery_s:.1f} s")
        if self.attempts is not None:
            parts.append(f"attempts: {self.attempts}")
        return "; ".join([*parts, f"{self.took_s:.0f} s in all: {self.verdict}"])


def run(scene: Scene, faults: Iterable[Fault], seed: int) -> Iterator[Line]:
    """Do each fault, let the scene settle, check the invariants. After one that broke, the scene may be broken too."""
    for each in faults:
        began_at = time.monotonic()
        since = scene.installation.one("SELECT now()")
        recovery_s: float | None = None
        attempts: int | None = None
        try:
            recovery_s = each.inject(scene)
            attempts = scene.installation.one("SELECT max(attempt) FROM tasks WHERE created_at >= :since", since=since)
            scene.settle()
            verdict = "survived"
            if each.within_s is not None and recovery_s > each.within_s(scene):
                verdict = f"survived, but recovery took longer than {each.within_s(scene):.0f} s"
        except NotHere as error:
            verdict = f"not on this machine: {error}"
        except Broken as error:
            verdict = f"BROKEN: {error}"
        except Exception:
            verdict = f"BROKEN: {traceback.format_exc()}"
        yield Line(
            each.id, each.injected, seed, each.measures, recovery_s, attempts, time.monotonic() - began_at, verdict
        )
