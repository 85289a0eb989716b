"""One log line format for every process: a sentence for people, `event` and ids for machines."""

from __future__ import annotations

import logging
import sys
from typing import Any

#: Attributes that every log record has; whatever else is on a record came in by `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z INFO keyframes: sentence event=claimed task_id=…`, one line a record."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, service: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self.service = service
        self.converter = _utc

    def format(self, record: logging.LogRecord) -> str:
        extra = " ".join(f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD)
        line = f"{self.formatTime(record)} {record.levelname} {self.service}: {record.getMessage()}"
        if extra:
            line += " " + extra
        if not line.isprintable():
            # What others chose, such as a path, must neither begin a line of its own nor steer a terminal.
            line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _utc(seconds: float | None = None) -> Any:
    import time

    return time.gmtime(seconds)


def configure_logging(service: str, level: str = "INFO") -> None:
    """Send every record of this process to stderr in the one format. For entry points only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These say at INFO what our own lines say better.
    for name in ("celery.worker.strategy", "celery.app.trace", "alembic", "urllib3", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)
