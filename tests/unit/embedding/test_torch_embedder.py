"""A network runs in one shape, without gradients, and must prove itself before it embeds anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from services.embedding.torch_embedder import TorchEmbedder, middle, weights_of
from shared.errors import ErrorKind, PermanentError, ProcessSpoiled


class Mean(nn.Module):
    """The mean of each channel, and the shapes that came."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, pixels):
        self.shapes.append(tuple(pixels.shape))
        assert not torch.is_grad_enabled()
        assert not self.training
        return pixels.mean((2, 3)) * self.scale


def first_pixels(rgb):
    """The first 2 x 2 pixels, because a batch needs one shape."""
    return {"pixels": torch.from_numpy(rgb[:2, :2].copy()).permute(2, 0, 1).float()}


def embedder_of(network, forward=None, **options):
    return TorchEmbedder("net", network, first_pixels, forward or network, fingerprint="f", device="cpu", **options)


def levels(n):
    return [np.full((2, 2, 3), level, np.uint8) for level in range(n)]


def refusal(forward, **options) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        embedder_of(Mean(), forward, **options)
    return caught.value


@pytest.mark.parametrize("n", [0, 1, 3, 4, 9])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_pass_has_the_same_shape_and_every_picture_its_row(n, batch_size):
    network = Mean()
    embedder = embedder_of(network)
    network.shapes.clear()
    embedder.batch_size = batch_size  # as a GPU's is
    assert embedder.embed_batch(levels(n)).tolist() == [[level] * 3 for level in range(n)]
    assert set(network.shapes) <= {(batch_size, 3, 2, 2)}


def test_the_dimension_is_measured():
    assert embedder_of(Mean()).dimension == 3


def test_another_dimension_than_expected_is_refused():
    error = refusal(None, dimension=4)
    assert error.kind is ErrorKind.BAD_PARAMETERS
    assert "3 numbers where 4 are expected" in error.message


def test_an_output_that_is_no_vector_is_refused():
    assert "(3, 2, 2)" in refusal(lambda pixels: pixels).message
    assert "at most 16000" in refusal(lambda pixels: torch.zeros(len(pixels), 16_001)).message


def test_vectors_that_are_not_finite_are_refused():
    assert "not finite" in refusal(lambda pixels: torch.full((len(pixels), 2), torch.nan)).message


def test_a_network_that_answers_at_random_is_refused():
    assert "another vector each time" in refusal(lambda pixels: torch.rand(len(pixels), 8)).message


def test_a_device_that_is_not_there_is_refused():
    for device in ("cuda:99", "no such thing"):
        with pytest.raises(PermanentError, match="REELMAP_DEVICE") as caught:
            TorchEmbedder("net", Mean(), first_pixels, Mean(), fingerprint="f", device=device)
        assert caught.value.kind is ErrorKind.BAD_PARAMETERS


def test_weights_are_parameters_and_statistics_without_those_that_do_not_count():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    # Linear: weight and bias; BatchNorm: weight, bias, mean and variance, but not its count of batches.
    assert sorted(w.shape for w in weights_of(network)) == [(3,)] * 5 + [(3, 2)]
    assert len(list(weights_of(network, without=("1.",)))) == 2


def test_the_middle_of_a_strip_is_kept_and_other_pictures_are_left_alone():
    strip = np.arange(100, dtype=np.uint8).reshape(1, 100, 1).repeat(3, axis=2)
    assert middle(strip)[0, :, 0].tolist() == list(range(42, 58))  # 16 of 100, 42 left out on either side
    assert middle(strip.transpose(1, 0, 2)).shape == (16, 1, 3)
    assert middle(strip[:, :16]).shape == (1, 16, 3)


def test_a_device_that_fails_spoils_the_process_and_a_defect_does_not():
    network = Mean()
    embedder = embedder_of(network)
    network.forward = _raise(torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"))
    with pytest.raises(ProcessSpoiled, match="ECC") as caught:
        embedder.embed_batch(levels(1))
    assert caught.value.kind is ErrorKind.DEVICE_LOST
    network.forward = _raise(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        embedder.embed_batch(levels(1))


def _raise(error):
    def forward(pixels):
        raise error

    return forward
