"""Errors keep their parts on the way between processes."""

from __future__ import annotations

import pickle

from shared.errors import ErrorKind, PermanentError, TransientError


def test_errors_say_their_sentence_and_survive_pickling():
    for error in (
        PermanentError(ErrorKind.EMPTY, "zero bytes"),
        TransientError(ErrorKind.THROTTLED, "slow down", retry_after_s=5),
    ):
        back = pickle.loads(pickle.dumps(error))
        assert vars(back) == vars(error)
        assert str(back) == error.message
