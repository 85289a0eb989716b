"""Faults of clocks. Leases are by the database's clock, so no worker's own matters."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults.installation import Broken
from tests.faults.scene import GOOD, NotHere, Scene, fault

LIBRARY = "libfaketime.so.1"


@fault("F24", "the clock of one worker is wrong by 10 minutes or 3 hours, either way", measures="until the jobs ended")
def wrong_clock(scene: Scene) -> float:
    installation = scene.installation
    found = sorted(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"))
    if not found:
        raise NotHere(f"{LIBRARY} is not installed (Debian's package faketime)")
    began_at = time.monotonic()
    for offset in ("+10m", "-10m", "+3h", "-3h"):
        for name in ("keyframes", "keyframes-2", "embedding"):
            installation.end(name)
        # DONT_FAKE_MONOTONIC: what measures durations is right on a machine whose clock is wrong.
        fake = {"LD_PRELOAD": str(found[-1]), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        installation.start("keyframes", "embedding", environ=fake)
        installation.start("keyframes-2")
        slow = scene.submit(GOOD[:1], slow_s=1.5 * scene.timing.heartbeat_s)
        others = [scene.submit() for _ in range(2)]
        for job_id, names in [(slow, GOOD[:1]), *((job_id, GOOD) for job_id in others)]:
            scene.finish(job_id, names)
            if installation.attempts(job_id) != 1:
                raise Broken(f"a clock that is wrong by {offset} cost an attempt: {installation.describe(job_id)}")
    for name in ("keyframes", "embedding"):
        installation.end(name)
    installation.start("keyframes", "embedding")
    return time.monotonic() - began_at
