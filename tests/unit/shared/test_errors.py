"""Errors keep their parts on the way between processes."""

from __future__ import annotations

import pickle

import pytest
from sqlalchemy.exc import OperationalError

from shared.errors import ErrorKind, PermanentError, TransientError, one_line


def test_errors_say_their_sentence_and_survive_pickling():
    for error in (
        PermanentError(ErrorKind.EMPTY, "zero bytes"),
        TransientError(ErrorKind.THROTTLED, "slow down", retry_after_s=5),
    ):
        back = pickle.loads(pickle.dumps(error))
        assert vars(back) == vars(error)
        assert str(back) == error.message


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\n  second\t."), "first second ."),
        (ValueError("x" * 1000), "x" * 200 + "…"),
        (ValueError("\x1b[31mred\u202e"), "[31mred"),
        (TimeoutError(), "TimeoutError"),
        (OperationalError("SELECT 1", {}, Exception("server closed\nthe connection")), "server closed the connection"),
    ],
)
def test_an_error_in_one_line(error, line):
    assert one_line(error) == line
