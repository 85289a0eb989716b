"""What every embedding model promises: pictures in, one float32 vector each out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

#: A picture: uint8 (H, W, 3), red green blue.
Rgb = npt.NDArray[np.uint8]
#: Embeddings of n pictures: float32 (n, d), not normalised.
Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """A loaded model.

    Row i depends on picture i only, never on the pictures beside it, and the same picture gives the same vector.
    """

    @property
    def dimension(self) -> int:
        """The length d of a vector."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights, pooling and preprocessing: equal on every machine that computes the same embedding."""

    @property
    def batch_size(self) -> int:
        """How many pictures at a time keep the device busy."""

    def embed_batch(self, pictures: Sequence[Rgb]) -> Vectors:
        """Embeds any number of pictures, each uint8 (H, W, 3) of any size.

        Returns float32 (n, d), finite; (0, d) for none. Raises `ValueError` for an array that is no such picture.
        """


def embed_all(embedder: Embedder, pictures: Iterable[Rgb]) -> Vectors:
    """Embeds pictures as they come, holding one batch of them at a time. Returns float32 (n, d)."""
    batches = [embedder.embed_batch(batch) for batch in _batches(pictures, embedder.batch_size)]
    return np.concatenate(batches) if batches else np.empty((0, embedder.dimension), np.float32)


def check_picture(picture: Rgb) -> None:
    """Raises `ValueError` unless the array is uint8 (H, W, 3) and not empty."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ValueError(f"a picture is uint8 (H, W, 3), not {picture.dtype} {picture.shape}")


def _batches(pictures: Iterable[Rgb], size: int) -> Iterator[list[Rgb]]:
    pictures = iter(pictures)
    while batch := list(islice(pictures, size)):
        yield batch
