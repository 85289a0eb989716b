"""A fingerprint changes with what changes a vector, and with nothing else."""

from __future__ import annotations

import numpy as np

from services.embedding.fingerprint import fingerprint

RECIPE = {"pooling": "mean", "preprocessing": {"size": 224}}
A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.ones(4, np.float32)


def test_it_is_the_same_on_every_machine():
    known = "27c633c67e580f75c07128f54e8a09037023ac301f9c802d8dd0c862ce1a1cdc"  # pragma: allowlist secret
    assert fingerprint(RECIPE, [A, B]) == known


def test_the_order_of_keys_and_of_weights_does_not_matter():
    turned = {"preprocessing": {"size": 224}, "pooling": "mean"}
    assert fingerprint(turned, [B, A]) == fingerprint(RECIPE, [A, B])


def test_another_pooling_another_number_or_another_shape_is_another_fingerprint():
    others = [
        fingerprint({**RECIPE, "pooling": "class token"}, [A, B]),
        fingerprint(RECIPE, [A + 1e-6, B]),
        fingerprint(RECIPE, [A.reshape(3, 2), B]),
        fingerprint(RECIPE, [A]),
        fingerprint(RECIPE),
    ]
    assert len({fingerprint(RECIPE, [A, B]), *others}) == 6


def test_weights_that_do_not_lie_in_one_piece_are_read_in_their_order():
    assert fingerprint(RECIPE, [A.T.copy().T, B]) == fingerprint(RECIPE, [A, B])
