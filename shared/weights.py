"""Where a model's weights may be, as data: in the weights folder, in an installed package, on a public hub.

Each model's file says it once, and who looks, fetches or explains derives it from there. Nothing here asks a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


@dataclass(frozen=True)
class HuggingFace:
    """A repository of Hugging Face, such as `facebook/vit-mae-base`."""

    repository: str


@dataclass(frozen=True)
class TorchFile:
    """A file behind a URL, named as torch names them: `-7f5810bc` at the end starts its SHA-256."""

    url: str

    @property
    def name(self) -> str:
        """The file's name in a folder."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class TorchvisionMember:
    """A member of torchvision's weights, such as `ResNet50_Weights.IMAGENET1K_V2`; only torchvision knows its URL."""

    name: str


Hub = HuggingFace | TorchFile | TorchvisionMember


@dataclass(frozen=True)
class PackagedFile:
    """A file of an installed package, which is read and never imported.

    file: below the folder that holds the packages. sha256: of the file, in hexadecimal.
    """

    package: str
    version: str
    file: str
    sha256: str

    def path(self) -> Path | None:
        """Where the file is; None where the package is not installed."""
        try:
            path = Path(str(distribution(self.package).locate_file(self.file)))
        except PackageNotFoundError:
            return None
        return path if path.is_file() else None


@dataclass(frozen=True)
class Weights:
    """Where to look, in this order: the folder, the package, the hub.

    names: accepted names below the weights folder, or absolute paths, the first that exists is taken; none where only
    the hub's library knows the file's name.
    """

    names: tuple[str, ...] = ()
    packaged: PackagedFile | None = None
    hub: Hub | None = None

    def in_folder(self, weights_dir: Path | None) -> Path | None:
        """The file or folder that a person or `fetch_weights` put there."""
        paths = (Path(weights_dir or "/", name) for name in self.names if weights_dir or Path(name).is_absolute())
        return next((path for path in paths if path.exists()), None)
