"""Where a fault happens: an installation, videos for it, and how long everything takes there."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.installation import Broken, Installation
from tests.faults.outcome import differences, outcome_of, violations
from tests.site import serving, write_clips

#: Clip -> the textures that its shots show.
CLIPS = {"first": [0, 1, 2], "second": [2, 3, 4], "third": [5, 0, 3, 1]}
GOOD = tuple(f"{name}.mp4" for name in CLIPS)
#: One video twice, and files that are none.
MIXED = (*GOOD, "first.mp4", "notes.mp4", "half.mp4", "empty.mp4", "missing.mp4")

WORKERS = ("keyframes", "keyframes-2", "embedding", "clustering")
PROCESSES = ("api", "dispatcher", *WORKERS)


@dataclass(frozen=True)
class Timing:
    """How long things take, all in seconds: settings of the processes, and lengths of outages.

    patience_s: how long a job of this scene may take in all, once the fault is over.
    """

    lease_s: float
    heartbeat_s: float
    resend_after_s: float
    backoff_s: float
    stop_grace_s: float
    redis_down_s: float
    redis_cycles: int
    silence_s: float
    postgres_down_s: float
    many: int
    patience_s: float

    def environ(self) -> dict[str, str]:
        names = ("lease_s", "heartbeat_s", "resend_after_s", "backoff_s", "stop_grace_s")
        return {f"REELMAP_{name.upper()}": f"{getattr(self, name):g}" for name in names}


#: The defaults of the settings, and outages as the fault list names them.
PRODUCTION = Timing(
    lease_s=60,
    heartbeat_s=20,
    resend_after_s=60,
    backoff_s=10,
    stop_grace_s=10,
    redis_down_s=12,
    redis_cycles=5,
    silence_s=40,
    postgres_down_s=300,
    many=1000,
    patience_s=400,
)

#: The same in a tenth of the time.
SHORT = Timing(
    lease_s=6,
    heartbeat_s=2,
    resend_after_s=6,
    backoff_s=1,
    stop_grace_s=3,
    redis_down_s=3,
    redis_cycles=2,
    silence_s=12,
    postgres_down_s=8,
    many=150,
    patience_s=90,
)


@dataclass
class Scene:
    """One installation with all its processes running, and what was run on it so far."""

    installation: Installation
    site: str
    timing: Timing
    chance: random.Random
    folder: Path
    _copies: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    references: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def urls(self, names: Sequence[str] = GOOD, **query: Any) -> list[str]:
        """Addresses of the clips under which they are videos that nobody has seen yet. query: to the site."""
        copy = next(self._copies)
        asked = "&".join(f"{name}={value}" for name, value in {"copy": copy, **query}.items())
        return [f"{self.site}/{name}?{asked}" for name in names]

    def submit(self, names: Sequence[str] = GOOD, **query: Any) -> str:
        """A job over new copies of the clips. Returns its id."""
        return self.installation.submit(self.urls(names, **query))

    def reference(self, names: Sequence[str]) -> Any:
        """The outcome of these clips when nothing goes wrong: run once, before the first fault."""
        key = tuple(names)
        if key not in self.references:
            job_id = self.installation.submit(self.urls(names))
            self.installation.wait_final(job_id, for_s=self.timing.patience_s)
            if attempts := self.installation.attempts(job_id) - 1:
                raise Broken(f"the reference run needed {attempts} further attempts")
            self.references[key] = outcome_of(self.installation, job_id)
        return self.references[key]

    def check(self, job_id: str, names: Sequence[str] = GOOD) -> None:
        """The job ended as the reference did, byte for byte. Raises `Broken`."""
        if lines := differences(outcome_of(self.installation, job_id), self.reference(names), job_id):
            raise Broken("; ".join(lines))

    def finish(self, job_id: str, names: Sequence[str] = GOOD) -> float:
        """Wait for the end of the job, which must be the reference's. Returns the seconds."""
        took_s = self.installation.wait_final(job_id, for_s=self.timing.patience_s)
        self.check(job_id, names)
        return took_s

    def settle(self) -> None:
        """Everything runs, a new job goes through without trouble, and every invariant holds. Raises `Broken`."""
        installation = self.installation
        installation.forget_orders()
        for server in ("postgres", "redis"):
            installation.heal(server)
        if installation.object_store:
            installation.disturb_store("pass")
        for name in PROCESSES:
            if name not in installation.members or not installation.is_running(name):
                raise Broken(f"{name} is not running any more: {installation.log_of(name)[-1000:]}")
        job_id = self.submit()
        self.finish(job_id)
        if found := violations(installation):
            raise Broken("; ".join(found))

    def wait_a_moment(self) -> None:
        """Let a time pass that the seed decides, so that a fault strikes elsewhere in another run."""
        time.sleep(self.chance.uniform(0, 1))

    @property
    def lease_and_notice_s(self) -> float:
        """The longest from a worker's death to its task running elsewhere: lease, a look of the dispatcher, claim."""
        return self.timing.lease_s + 15


@contextmanager
def scene(folder: Path, timing: Timing, seed: int, *, in_a_bucket: bool = False) -> Iterator[Scene]:
    """A scene with every process of `PROCESSES` running. in_a_bucket: with its blobs in an object store."""
    clips = folder / "clips"
    clips.mkdir(parents=True)
    write_clips(clips, CLIPS)
    with (
        serving(clips) as site,
        Installation(folder / "reelmap", timing.environ(), in_a_bucket=in_a_bucket) as installation,
    ):
        installation.start(*PROCESSES)
        here = Scene(installation, site, timing, random.Random(seed), folder)
        for names in (GOOD, GOOD[:1]) if in_a_bucket else (GOOD, GOOD[:1], MIXED):
            here.reference(names)
        yield here


@dataclass(frozen=True)
class Fault:
    """One fault of the list.

    inject: makes it happen, waits for the recovery and checks what is particular; returns the seconds that the recovery
        took, measured as `measures` says. is_short: part of `make test`. within_s: the longest that is allowed.
        in_a_bucket: happens where blobs are in an object store.
    """

    id: str
    injected: str
    measures: str
    inject: Callable[[Scene], float]
    is_short: bool
    within_s: Callable[[Scene], float] | None
    in_a_bucket: bool


FAULTS: dict[str, Fault] = {}


def fault(
    id: str,
    injected: str,
    *,
    measures: str,
    short: bool = False,
    within_s: Callable[[Scene], float] | None = None,
    in_a_bucket: bool = False,
) -> Callable[[Callable[[Scene], float]], Callable[[Scene], float]]:
    """Put a function on the list of faults. within_s: the longest recovery that is allowed."""

    def put(inject: Callable[[Scene], float]) -> Callable[[Scene], float]:
        FAULTS[id] = Fault(id, injected, measures, inject, short, within_s, in_a_bucket)
        return inject

    return put


class NotHere(Exception):
    """This machine cannot do the fault; the message says what it lacks."""
