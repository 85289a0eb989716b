"""Pictures are embedded in batches, as they come."""

from __future__ import annotations

import numpy as np

from services.embedding.embedder import embed_all


class Brightness:
    """A picture's mean and its largest value, and the sizes of the batches it came in."""

    dimension = 2
    fingerprint = "0" * 64
    batch_size = 3

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def embed_batch(self, pictures):
        self.batch_sizes.append(len(pictures))
        return np.array([[p.mean(), p.max()] for p in pictures], np.float32)


def test_all_pictures_are_embedded_in_order_and_in_batches():
    embedder = Brightness()
    X = embed_all(embedder, (np.full((2, 2, 3), level, np.uint8) for level in range(7)))
    assert X[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert embedder.batch_sizes == [3, 3, 1]


def test_no_more_than_one_batch_of_pictures_is_taken_at_a_time():
    embedder = Brightness()
    taken_before_batch = []

    def pictures():
        for index in range(6):
            taken_before_batch.append((index, len(embedder.batch_sizes)))
            yield np.zeros((1, 1, 3), np.uint8)

    embed_all(embedder, pictures())
    assert taken_before_batch == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]


def test_no_pictures_give_no_rows_of_the_right_length():
    X = embed_all(Brightness(), [])
    assert X.shape == (0, 2)
    assert X.dtype == np.float32
