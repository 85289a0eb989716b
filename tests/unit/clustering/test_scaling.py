from __future__ import annotations

import numpy as np
import pytest

from services.clustering.scaling import scale
from shared.catalog import SCALINGS


def scaled(X, scaling, pca_dimensions=64):
    return scale(np.asarray(X, np.float32), scaling, pca_dimensions=pca_dimensions, seed=0)


def test_standard_gives_mean_0_and_deviation_1(blobs):
    X, _ = blobs(500, 6, 3, spread=2.0)
    Z = scaled(1000 + 30 * X, "standard")
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(Z.std(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e-20, 123456.789])
def test_a_dimension_in_which_all_agree_becomes_zero(constant):
    X = np.random.default_rng(0).normal(size=(300, 3))
    X[:, 1] = constant
    assert not scaled(X, "standard")[:, 1].any()


def test_l2_gives_length_1_and_leaves_the_zero_vector():
    Z = scaled([[3, 4], [0, 0], [1e-3, 0]], "l2")
    np.testing.assert_allclose(Z, [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)


def test_none_changes_nothing():
    X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    assert np.array_equal(scaled(X, "none"), X)


def test_pca_keeps_the_directions_of_largest_variance(blobs):
    X, _ = blobs(200, 30, 3, spread=0.01)
    Z = scaled(X, "pca", pca_dimensions=2)  # three centres lie in a plane
    standard = scaled(X, "standard")
    assert Z.shape == (200, 2)
    assert Z.var(axis=0).sum() == pytest.approx(standard.var(axis=0).sum(), rel=0.01)


@pytest.mark.parametrize(("n", "d", "kept"), [(5, 30, 5), (100, 3, 3), (1, 3, 1)])
def test_pca_keeps_no_more_dimensions_than_there_are(n, d, kept):
    assert scaled(np.random.default_rng(0).normal(size=(n, d)), "pca").shape == (n, kept)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_float32_comes_out_and_the_input_stays(scaling):
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    X.flags.writeable = False
    assert scaled(X, scaling).dtype == np.float32


def test_an_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match=r"^scaling must be one of standard, none, l2, pca;"):
        scaled([[1]], "whiten")
