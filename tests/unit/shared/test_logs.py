"""One line a record: a sentence for people, words for machines."""

from __future__ import annotations

import logging
import sys

from shared.logs import LineFormatter


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "levelname": "INFO", "created": 0.0, "msecs": 0})
    vars(made).update(extra)
    return made


def test_extra_fields_follow_the_sentence():
    line = LineFormatter("embedding").format(record("done in 2 s", event="computed", task_id="t1"))
    assert line == "1970-01-01T00:00:00.000Z INFO embedding: done in 2 s event=computed task_id=t1"


def test_a_message_of_several_lines_stays_one_line():
    assert "\n" not in LineFormatter("api").format(record("first\nsecond"))


def test_a_traceback_follows():
    try:
        raise RuntimeError("why")
    except RuntimeError:
        line = LineFormatter("api").format(record("failed", exc_info=sys.exc_info()))
    assert line.splitlines()[0].endswith("api: failed") and line.endswith("RuntimeError: why")
