from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other are many times slower than one where other processes want the cores too."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def blobs():
    """Makes vectors around random centres: (X float32 (n, d), truth (n,))."""

    def make(n, d, k, *, spread, seed=0):
        rng = np.random.default_rng(seed)
        truth = rng.integers(k, size=n)
        return (rng.normal(size=(k, d))[truth] + spread * rng.normal(size=(n, d))).astype(np.float32), truth

    return make
