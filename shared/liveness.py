"""A sign of life: a file that a process touches while its loop turns, and the command that looks how old it is.

`python -m shared.liveness FILE --max-age-s 60` is the probe for Kubernetes and compose. It asks no server, so that
nothing is restarted because Redis or Postgres is away, and imports nothing heavy, because it runs every few seconds.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

#: How often a process that lives touches its file.
TOUCH_EVERY_S = 2.0


class AliveFile:
    """The file of one process. path: None makes every call do nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def touch(self) -> None:
        """Say that the loop turns. A file that cannot be written is told to the log, and costs no work."""
        if self.path is not None:
            try:
                self.path.touch()
            except OSError as error:
                logger.warning("could not touch %s: %s", self.path, error.strerror, extra={"event": "no_alive_file"})

    def remove(self) -> None:
        """Say that the process ends."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def age_s(path: Path) -> float | None:
    """Seconds since the file was touched; None when it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit with 0 when the file is young enough, else with 1 and a sentence."""
    parser = argparse.ArgumentParser(prog="python -m shared.liveness", description="Whether a process lives.")
    parser.add_argument("file", type=Path, help="what REELMAP_ALIVE_FILE names for that process")
    parser.add_argument("--max-age-s", type=float, default=60.0, help="how long ago it may have been touched")
    asked = parser.parse_args(arguments)
    age = age_s(asked.file)
    if age is None:
        sys.exit(f"{asked.file} is not there: the process has not started yet, has ended, or noticed that it stalled")
    if age > asked.max_age_s:
        sys.exit(f"{asked.file} was touched {age:.0f} s ago, more than {asked.max_age_s:g} s: the process hangs")
    sys.stdout.write(f"alive, touched {max(age, 0):.0f} s ago\n")


if __name__ == "__main__":
    main()
