"""How many threads clustering computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Matrix products in one thread while the block runs, as scikit-learn does itself inside Lloyd's iterations.

    k-means++ and the mini-batches multiply small matrices very often, and OpenBLAS' threads spin while they wait for
    each other: beside other busy processes on two cores, 622 vectors of 1280 numbers into 78 clusters took 17 s with
    two threads and 2.4 s with one. It also makes the bits independent of the number of cores.
    """
    import sklearn.cluster  # noqa: F401  loads all the libraries that are to be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
