import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from services.clustering.clusterer import ClusteringSettings, cluster
from services.clustering.threads import one_blas_thread


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_matrix_products_have_one_thread_inside_and_as_many_as_before_outside():
    import sklearn.cluster  # noqa: F401

    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == before


def test_the_same_vectors_give_the_same_bits_whatever_the_number_of_threads_outside(blobs):
    X, _ = blobs(200, 32, 4, spread=0.5)
    settings = ClusteringSettings(scaling="pca", pca_dimensions=4)
    results = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads, user_api="blas"):
            results.append(cluster(X, settings))
    np.testing.assert_array_equal(results[0].labels, results[1].labels)
    np.testing.assert_array_equal(results[0].distances, results[1].distances)
