"""Runs a torch network over pictures: one shape per forward pass, no gradients, float32 out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from services.embedding.embedder import Rgb, Vectors, check_picture
from shared.errors import ErrorKind, PermanentError, ProcessSpoiled

#: What one picture becomes before it is stacked with others: the arguments of the forward pass, by name.
Inputs = dict[str, torch.Tensor]

GPU_BATCH_SIZE = 64
#: One, because it makes a vector independent of its company by construction. Four at a time would be 0 % (EfficientNet,
#: DINOv2) to 30 % (ViT-MAE base, CLIP) faster on two cores.
CPU_BATCH_SIZE = 1

#: A picture more than this many times as long as wide is a strip.
MAX_SIDE_RATIO = 16
#: pgvector stores no longer vector.
MAX_DIMENSION = 16_000


class TorchEmbedder:
    """An `Embedder` around a torch network.

    Every forward pass has exactly `batch_size` pictures; a short batch is filled up. Sums are ordered by shape, so a
    picture's vector would otherwise depend on how many others there are (ViT-MAE base, one against sixteen on a CPU:
    4e-7 apart), and with convolutions on a CPU even on its place among them (EfficientNet).
    """

    def __init__(
        self,
        model: str,
        network: nn.Module,
        prepare: Callable[[Rgb], Inputs],
        forward: Callable[..., torch.Tensor],
        *,
        fingerprint: str,
        device: str,
        dimension: int | None = None,
    ) -> None:
        """Moves the network to the device and has it prove itself on one picture.

        prepare: one picture → tensors without a batch axis. forward: those, stacked → (batch, d).
        dimension: the d to insist on; None takes what comes.

        Raises `PermanentError` (bad_parameters, weights_missing) when the vectors are not usable.
        """
        self._device = _torch_device(device)
        on_gpu = self._device.type == "cuda"
        self.batch_size = GPU_BATCH_SIZE if on_gpu else CPU_BATCH_SIZE
        self.fingerprint = fingerprint
        self._half = (
            torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        )
        self._prepare = prepare
        self._forward = forward
        network.requires_grad_(False).eval().to(self._device)
        self.dimension = self._proven_dimension(model, dimension)

    def embed_batch(self, pictures: Sequence[Rgb]) -> Vectors:
        for picture in pictures:
            check_picture(picture)
        vectors = np.empty((len(pictures), self.dimension), np.float32)
        for start in range(0, len(pictures), self.batch_size):
            batch = pictures[start : start + self.batch_size]
            vectors[start : start + len(batch)] = self._embed(batch)
        return vectors

    def _embed(self, pictures: Sequence[Rgb]) -> Vectors:
        inputs = [self._prepare(picture) for picture in pictures]
        inputs += inputs[-1:] * (self.batch_size - len(inputs))
        stacked = {name: torch.stack([each[name] for each in inputs]) for name in inputs[0]}
        on_gpu = self._device.type == "cuda"
        with (
            self._device_errors(),
            torch.inference_mode(),
            torch.autocast("cuda", self._half, enabled=on_gpu),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            output = self._forward(**{name: tensor.to(self._device) for name, tensor in stacked.items()})
            # An error of a kernel may show as late as here, when its results are asked for.
            return output[: len(pictures)].float().cpu().numpy()

    @contextmanager
    def _device_errors(self) -> Iterator[None]:
        """After an error of the device (not: too little memory) no call of this process reaches it any more."""
        try:
            yield
        except torch.AcceleratorError as error:
            reason = str(error).splitlines()[0]
            raise ProcessSpoiled(
                ErrorKind.DEVICE_LOST, f"The device {self._device} failed ({reason}); look at the machine's GPU."
            ) from error

    def _proven_dimension(self, model: str, expected: int | None) -> int:
        picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
        once, again = self._embed([picture]), self._embed([picture])
        if once.ndim != 2 or once.shape[1] > MAX_DIMENSION:
            raise _unusable(
                model, f"gives an array {once.shape[1:]} where a vector has at most {MAX_DIMENSION} numbers"
            )
        if expected and once.shape[1] != expected:
            raise _unusable(model, f"gives vectors of {once.shape[1]} numbers where {expected} are expected")
        if not np.isfinite(once).all():
            raise _unusable(model, "gives vectors that are not finite")
        if not np.allclose(once, again, rtol=0, atol=0.01 * float(np.abs(once).max())):
            raise _unusable(model, "gives the same picture another vector each time, so it cannot be clustered")
        return int(once.shape[1])


def weights_of(network: nn.Module, *, without: tuple[str, ...] = ()) -> Iterator[npt.NDArray[np.float32]]:
    """The network's parameters and statistics as arrays, for the fingerprint.

    without: how the names of those start that cannot reach the embedding.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not name.startswith(without):
            yield tensor.float().cpu().numpy()


def middle(rgb: Rgb) -> Rgb:
    """The middle of a strip, for use before a centre crop; every other picture as it is.

    The crop keeps no more than this of it, and resizing a whole strip by its short side can take gigabytes.
    """
    height, width = rgb.shape[:2]
    longest = MAX_SIDE_RATIO * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return rgb[top : top + longest, left : left + longest]


def _torch_device(device: str) -> torch.device:
    """Raises `PermanentError` for a device that is not there."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PermanentError(
            ErrorKind.BAD_PARAMETERS,
            f"The device {device!r} cannot be used: {reason}. Set REELMAP_DEVICE to auto, cpu or a GPU that is there.",
        ) from error


def _unusable(model: str, reason: str) -> PermanentError:
    return PermanentError(
        ErrorKind.BAD_PARAMETERS, f"The model {model} {reason}. Check its weights, architecture and pooling."
    )
