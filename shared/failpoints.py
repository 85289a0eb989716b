"""Named places where a test may stop, hold or break a process: faults that no signal from outside can time.

Off unless the setting `failpoints_folder` names a folder, and then nothing but a file in it does anything:
`keyframes.before_commit` with `{"do": "kill"}` ends the next process that is about to commit a keyframes task. Of
several processes one acts, because the file is renamed first. Never set this where people's jobs run.
"""

from __future__ import annotations

import ctypes
import errno
import json
import logging
import os
import signal
import time
from pathlib import Path

from shared.errors import ErrorKind, ProcessSpoiled

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.02

_folder: Path | None = None


def arm(folder: Path | None) -> None:
    """Look for files in `folder` from now on, here and in processes that are forked; None: reach nothing."""
    global _folder
    if folder is not None:
        logger.warning(
            "fail-points are armed: a file in %s can make this process die or hang; unset REELMAP_FAILPOINTS_FOLDER "
            "where people's jobs run",
            folder,
            extra={"event": "failpoints_armed"},
        )
    _folder = folder


def reach(point: str, about: object = None) -> None:
    """Return at once, unless a file named `point` says what to do here.

    about: what is being worked on; a file with `"only": text` acts where `str(about)` holds the text.
    """
    if _folder is not None:
        _reach(_folder, point, about)


def _reach(folder: Path, point: str, about: object) -> None:
    path = folder / point
    try:
        order = json.loads(path.read_text())
    except FileNotFoundError:
        return
    if order.get("only", "") not in str(about):
        return
    if not order.get("always"):
        try:
            path.rename(folder / f"{point}.reached")
        except FileNotFoundError:  # another process was first
            return
    logger.warning("fail-point %s: %s", point, order["do"], extra={"event": "failpoint"})
    _act(order["do"], folder / f"{point}.go")


def _act(what: str, go: Path) -> None:
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hold":
            while not go.exists():
                time.sleep(LOOK_EVERY_S)
        case "hang":
            # A C function that keeps Python's lock, as a loop inside a library would: no thread of ours runs any more.
            ctypes.PyDLL(None).sleep(3600)
        case "fail":
            raise RuntimeError("broken by a fail-point")
        case "device_lost":
            raise ProcessSpoiled(ErrorKind.DEVICE_LOST, "the device was lost by a fail-point")
        case "disk_full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "io_error":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        case _:
            raise ValueError(f"no fail-point does {what!r}")
