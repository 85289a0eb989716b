"""Finds a model's weights: in the weights folder, else on their hub, else an error that says what to do."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import textwrap
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.errors import ErrorKind, PermanentError

CONNECT_TIMEOUT_S = 5
_TORCHVISION = "torchvision "

#: What a transformers folder needs beside its weights, and the two forms weights come in, the safer one first.
CONFIGURATION_FILES = ("config.json", "preprocessor_config.json")
WEIGHT_FILES = (
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)


class Hub(Protocol):
    """The public place that one model's weights come from."""

    def download(self, cache: Path | None = None) -> Path:
        """The file or folder in a cache, the hub's own when left out, fetched if it is not there. Raises `OSError`."""

    def command(self, name: str) -> str:
        """The shell command that fetches the weights as `name` on a machine with a network."""


@dataclass(frozen=True)
class HuggingFace:
    """A repository of Hugging Face, such as `facebook/vit-mae-base`."""

    repository: str

    def download(self, cache: Path | None = None) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            for weight_files in WEIGHT_FILES:
                wanted = [*CONFIGURATION_FILES, *weight_files]
                folder = Path(
                    snapshot_download(
                        self.repository, cache_dir=cache, allow_patterns=wanted, etag_timeout=CONNECT_TIMEOUT_S
                    )
                )
                if any(folder.glob(weight_files[0])):
                    return folder
        except (HfHubHTTPError, HFValidationError) as error:
            raise OSError(str(error)) from error
        raise OSError(f"the repository {self.repository} holds no weights for torch")

    def command(self, name: str) -> str:
        return f"hf download {self.repository} --local-dir {name}"


@dataclass(frozen=True)
class TorchFile:
    """A file of weights behind a URL, named as torch names them: `-7f5810bc` at the end starts its SHA-256."""

    url: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def download(self, cache: Path | None = None) -> Path:
        import torch.hub

        path = Path(cache or torch.hub.get_dir(), "checkpoints", self.name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(path)
        return path

    def command(self, name: str) -> str:
        return f"curl --fail --location --output {name} {self.url}"

    def _fetch(self, path: Path) -> None:
        # Not torch.hub's own download: it waits without limit for a server that does not answer.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder, self.name)
            with urllib.request.urlopen(self.url, timeout=CONNECT_TIMEOUT_S) as response, part.open("wb") as file:
                shutil.copyfileobj(response, file)
            with part.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            expected = re.search(r"-([0-9a-f]{8,})\.", self.name)
            if expected and not sha256.startswith(expected[1]):
                raise OSError(f"{self.url} came damaged: its SHA-256 starts with {sha256[:8]}")
            os.replace(part, path)


def hub_of(name: str | None) -> Hub | None:
    """The place that a model's entry names as its `HUB`; None where only the model's owner knows."""
    if name is None:
        return None
    if name.startswith(_TORCHVISION):
        from torchvision.models import get_weight

        return TorchFile(str(get_weight(name.removeprefix(_TORCHVISION)).url))
    return HuggingFace(name)


def find_weights(model: str, names: Sequence[str], weights_dir: Path | None, source: Hub | None, *, hub: bool) -> Path:
    """The file or folder with the weights of `model`.

    names: accepted names below the weights folder, or absolute paths; the first that exists is taken.
    source: where the weights come from; asked only if `hub` is true and no name exists.

    Raises `PermanentError` (weights_missing) with a sentence that says what to do.
    """
    for name in names:
        path = Path(weights_dir or "/", name)
        if (weights_dir or Path(name).is_absolute()) and path.exists():
            return path
    reasons = [f"there is no {' or '.join(names)} {_in_folder(weights_dir)}"]
    if source and hub:
        try:
            return source.download()
        except OSError as error:
            reasons.append(f"they could not be downloaded ({textwrap.shorten(str(error), 200, placeholder=' …')})")
    elif source:
        reasons.append("downloads are switched off (REELMAP_HUB)")
    advice = "Put them there"
    if source:
        advice = f"On a machine with a network run `{source.command(names[0])}`, put the result into that folder"
    raise PermanentError(
        ErrorKind.WEIGHTS_MISSING,
        f"The weights of {model} are missing: {' and '.join(reasons)}. {advice}, or choose another model.",
    )


def unusable(model: str, path: Path, reason: object) -> PermanentError:
    """The error for weights that are there but are not the model's: damaged, of another network, or incomplete."""
    short = textwrap.shorten(str(reason), 200, placeholder=" …")
    return PermanentError(
        ErrorKind.WEIGHTS_MISSING,
        f"The weights of {model} in {path} cannot be used ({short}). Fetch them again, or choose another model.",
    )


def _in_folder(weights_dir: Path | None) -> str:
    if weights_dir is None:
        return "in a weights folder, because none is set (REELMAP_WEIGHTS_DIR)"
    return f"in the weights folder {weights_dir} (REELMAP_WEIGHTS_DIR)"
