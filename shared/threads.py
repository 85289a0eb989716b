"""How many cores are ours, and how the threads of the libraries that compute share them with others."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path

#: OpenMP's threads spin while they wait for one that has no core. Embedding 40 pictures beside three busy processes on
#: two cores took 103 s, and 20 s with this; on idle cores it is all the same.
PATIENT_THREADS = {"OMP_WAIT_POLICY": "passive"}

#: The quota of a container: "200000 100000" for two cores, "max 100000" for none.
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """How many cores this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def patient_threads(environ: Mapping[str, str], quota: Path = CPU_QUOTA) -> dict[str, str]:
    """The variables that a process should compute with, less those that a person set.

    Where a container has time of fewer cores than it sees, the libraries are told, or they would start a thread for
    each core of the machine. They must be set before any of them is loaded.
    """
    wanted = dict(PATIENT_THREADS)
    granted = _granted_cores(quota)
    if granted is not None and granted < cores():
        wanted["OMP_NUM_THREADS"] = str(granted)
    return {name: value for name, value in wanted.items() if name not in environ}


def _granted_cores(quota: Path) -> int | None:
    try:
        granted, period = quota.read_text().split()
        return max(1, math.ceil(int(granted) / int(period)))
    except (OSError, ValueError):  # no such limit, or not this system's way to say it
        return None
