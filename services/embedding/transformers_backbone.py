"""Loads transformers vision networks as embedders, together with their own preprocessing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from services.embedding.embedder import Rgb
from services.embedding.fingerprint import fingerprint
from services.embedding.torch_embedder import Inputs, TorchEmbedder, middle, weights_of
from services.embedding.weights import unusable

#: Entries of preprocessor_config.json that name software, not what is done to a picture.
SOFTWARE_KEYS = (
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "transformers_version",
    "auto_map",
)


@dataclass(frozen=True)
class Backbone:
    """A network that was loaded whole, and what makes its input.

    unused: how the names of those weights start that cannot reach the embedding.
    """

    model: str
    network: Any
    processor: Any
    preprocessing: dict[str, Any]
    unused: tuple[str, ...]

    def pixels(self, rgb: Rgb) -> torch.Tensor:
        """Returns float32 (3, H, W), made by the checkpoint's own image processor."""
        if getattr(self.processor, "do_center_crop", False):
            rgb = middle(rgb)
        # The layout is said and the array copied, because the processor would guess (a picture three pixels high
        # looks like three channels) and warns about arrays that it could write to.
        made = self.processor(images=np.array(rgb), input_data_format="channels_last", return_tensors="pt")
        pixels: torch.Tensor = made["pixel_values"][0]
        return pixels

    def embedder(
        self,
        forward: Callable[..., torch.Tensor],
        *,
        pooling: str,
        device: str,
        dimension: int | None = None,
        prepare: Callable[[Rgb], Inputs] | None = None,
    ) -> TorchEmbedder:
        """The embedder that runs `forward` on the inputs of `prepare`, which are the pixels alone by default.

        pooling: what `forward` does with the network's output, in words, for the fingerprint.
        """
        network: nn.Module = self.network
        recipe = {"architecture": type(network).__name__, "pooling": pooling, "preprocessing": self.preprocessing}
        return TorchEmbedder(
            self.model,
            network,
            prepare or (lambda rgb: {"pixel_values": self.pixels(rgb)}),
            forward,
            fingerprint=fingerprint(recipe, weights_of(network, without=self.unused)),
            device=device,
            dimension=dimension,
        )


def load_backbone(model: str, folder: Path, class_name: str, *, unused: tuple[str, ...] = ()) -> Backbone:
    """The network of class `class_name` and the image processor in a transformers folder.

    `from_pretrained` only warns when it had to make up weights that the folder lacks; that is refused here unless the
    weights are `unused`, such as the pooler's of a network whose class token is taken.

    Raises `PermanentError` (weights_missing).
    """
    networks: Any = getattr(transformers, class_name)
    processors: Any = transformers.AutoImageProcessor
    try:
        with _quiet():
            network, report = networks.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
            processor = processors.from_pretrained(folder, local_files_only=True)
        preprocessing = json.loads(Path(folder, "preprocessor_config.json").read_bytes())
    except Exception as error:  # the folder can hold anything, and transformers raises from OSError to KeyError
        raise unusable(model, folder, error) from error
    made_up = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    needed = sorted(name for name in made_up if not name.startswith(unused))
    if needed:
        raise unusable(model, folder, f"{len(needed)} of its weights are not there, {', '.join(needed[:3])} among them")
    described = {name: value for name, value in preprocessing.items() if name not in SOFTWARE_KEYS}
    return Backbone(model, network, processor, described, unused)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the loading report and progress bar: what matters of them becomes an error above."""
    log: Any = transformers.utils.logging
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()
