"""Names an embedding by what computes it, so that changed weights cannot pass under an old name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def fingerprint(recipe: Mapping[str, Any], weights: Iterable[npt.NDArray[np.float32]] = ()) -> str:
    """SHA-256 (hexadecimal) over a recipe (pooling, preprocessing: JSON values) and the weights' shapes and bytes.

    The weights count as a set, without their names and their file's format: neither a library that renames its layers
    nor the same weights saved as another kind of file makes another embedding.
    """
    digests = sorted(_digest(array) for array in weights)
    return hashlib.sha256(b"".join([_canonical(recipe), *digests])).hexdigest()


def _digest(array: npt.NDArray[np.float32]) -> bytes:
    digest = hashlib.sha256(_canonical(array.shape))
    digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return digest.digest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
