"""EfficientNet-Lite0, which torchvision lacks, as a MobileNetV2 of torchvision's (the weights are TensorFlow's).

Both are chains of inverted residuals without squeeze-and-excitation. EfficientNet-Lite0 has other widths, 5 x 5 kernels
in some stages, and what TensorFlow does otherwise: where a convolution halves the picture, the odd row and column of
padding lie below and to the right only (symmetric padding costs 6 points of top-1), and its normalisations' epsilon.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision.models import MobileNetV2

from services.embedding.weights import unusable

#: Of each stage: expansion, channels, blocks, first stride, kernel.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
BATCH_NORM_EPS = 1e-3


class SamePadded(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME pads where it halves a picture of even sides."""

    def __init__(self, convolution: nn.Conv2d, kernel: int) -> None:
        """Like `convolution`, which it takes the place of, with another kernel."""
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            kernel,
            stride=convolution.stride,  # type: ignore[arg-type]  # pairs, which torch takes
            groups=convolution.groups,
            bias=False,
        )
        stride = self.stride[0]
        all_of_it = kernel - stride
        before = all_of_it // 2
        self._pad = nn.ZeroPad2d((before, all_of_it - before, before, all_of_it - before))

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # torch's name for it
        return super().forward(self._pad(input))


def load_efficientnet_lite0(model: str, path: Path) -> MobileNetV2:
    """The network with the state dict in `path`, whose entries are in the order of the network's and named otherwise.

    Its `classifier` is the one of the weights. Raises `PermanentError` (weights_missing) for any other number or shape
    of entries.
    """
    network = efficientnet_lite0()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    except Exception as error:  # the file can be anything, and torch raises from EOFError to AttributeError
        raise unusable(model, path, error) from error
    return network


def efficientnet_lite0() -> MobileNetV2:
    """The network without trained weights: float32 (n, 3, 224, 224) in, 1000 classes of ImageNet out."""
    network = MobileNetV2(
        inverted_residual_setting=[list(stage[:4]) for stage in STAGES],
        norm_layer=partial(nn.BatchNorm2d, eps=BATCH_NORM_EPS),
        dropout=0.0,
    )
    _set_kernels(network)
    return network


def _set_kernels(network: MobileNetV2) -> None:
    """Replace the convolutions that look at neighbours: the stem's, and each block's one of full depth."""
    kernels = [3, *(kernel for _, _, blocks, _, kernel in STAGES for _ in range(blocks))]
    wide = [
        (layers, name, layer)
        for layers in network.features.modules()
        for name, layer in layers.named_children()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
    ]
    for (layers, name, layer), kernel in zip(wide, kernels, strict=True):
        setattr(layers, name, SamePadded(layer, kernel))
