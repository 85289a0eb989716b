"""Which models, algorithms, key-frame strategies and formats there are, with their dimensions and parameters.

Every file in `services/embedding/models/`, `services/clustering/algorithms/`, `services/keyframes/strategies/` and
`services/exports/formats/` is an entry; the file's name is the entry's name. Those files import their heavy library
only inside functions, so the API lists and checks all of them without having torch. This is the one place where
`shared` looks into `services`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from shared.parameters import BadParameter, Declared, Parameter, declared, make, shown, within
from shared.weights import HuggingFace, TorchvisionMember, Weights

#: A convolutional network and a vision transformer: the models of a job that names none, where they can be loaded.
DEFAULT_MODELS = ("efficientnet_b0", "vit_mae_base")
#: What takes the place of a default model that cannot be loaded, the best first.
STAND_INS = {"efficientnet_b0": ("efficientnet_lite0",), "vit_mae_base": ("dinov2_small", "clip_vit_b32")}
DEFAULT_STRATEGY = "shots"
DEFAULT_ALGORITHM = "kmeans"
DEFAULT_FORMAT = "zip"

#: What can be done to the vectors before they are clustered.
SCALINGS = {
    "standard": "each dimension to mean 0 and variance 1, as scikit-learn's StandardScaler does",
    "none": "the vectors as the model gave them",
    "l2": "each vector to length 1, so that distances order like cosine",
    "pca": "standardised, then projected on the first principal components",
}


class UnknownName(ValueError):
    """No entry of that name."""


@dataclass(frozen=True)
class Entry:
    """One algorithm or strategy: `version` is None where results carry none."""

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    version: int | None = None
    max_vectors: int | None = None


@dataclass(frozen=True)
class Format:
    """One format of exports. suffix: of the file's name, with its dot."""

    name: str
    title: str
    media_type: str
    suffix: str


@dataclass(frozen=True)
class OwnModel(Declared):
    """A model that a person brings by the setting `own_models`, without code.

    library: where the architecture comes from.
    weights: a file or folder (absolute, or below the weights folder), or, with the hub, the hub's name.
    architecture: torchvision only, the builder's name such as `mobilenet_v2`.
    pooling: how the network's output becomes one vector.
    preprocessing: torchvision state dicts only: `resize_px`, `interpolation`, `crop_px`, `mean`, `std`.
    """

    library: Literal["torchvision", "transformers"]
    weights: str
    architecture: str | None = None
    pooling: Literal["class_token", "mean", "pooler"] = "mean"
    preprocessing: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Model:
    """One embedding model. `dimension` is None for an own model that no worker has loaded yet."""

    name: str
    title: str
    dimension: int | None
    weights: Weights | None = None  # None: needs none
    own: OwnModel | None = None


@cache
def _modules(package: str) -> dict[str, ModuleType]:
    """The modules of `package`, by name."""
    folder = importlib.import_module(package)
    names = sorted(info.name for info in pkgutil.iter_modules(folder.__path__) if not info.name.startswith("_"))
    return {name: importlib.import_module(f"{package}.{name}") for name in names}


def strategies() -> dict[str, Entry]:
    """The key-frame strategies, by name."""
    modules = _modules("services.keyframes.strategies")
    return {name: Entry(name, m.TITLE, declared(m.Parameters), version=m.VERSION) for name, m in modules.items()}


def algorithms() -> dict[str, Entry]:
    """The clustering algorithms, by name."""
    modules = _modules("services.clustering.algorithms").items()
    return {name: Entry(name, m.TITLE, declared(m.Parameters), max_vectors=m.MAX_VECTORS) for name, m in modules}


def models(own_models: Mapping[str, Any]) -> dict[str, Model]:
    """The embedding models, by name: those that come with Reelmap, then the person's own.

    own_models: the setting, name -> fields of `OwnModel`. Raises `BadParameter` naming the model.
    """
    entries = {
        name: Model(name, m.TITLE, m.DIMENSION, m.WEIGHTS) for name, m in _modules("services.embedding.models").items()
    }
    for name, given in own_models.items():
        if name in entries:
            raise BadParameter(name, f"own_models: {name} is a model that comes with Reelmap; choose another name")
        try:
            own = make(OwnModel, given, f"the own model {name}")
        except BadParameter as error:
            raise BadParameter(name, f"own_models: {name}: {error}") from None
        entries[name] = Model(name, f"own model ({own.library})", None, _own_weights(own), own)
    return entries


def _own_weights(own: OwnModel) -> Weights:
    if own.library == "torchvision":
        is_member = re.fullmatch(r"\w+_Weights\.\w+", own.weights)
        return Weights(hub=TorchvisionMember(own.weights)) if is_member else Weights((own.weights,))
    return Weights((own.weights,), hub=None if Path(own.weights).is_absolute() else HuggingFace(own.weights))


def formats() -> dict[str, Format]:
    """The formats of exports, by name."""
    modules = _modules("services.exports.formats")
    return {name: Format(name, m.TITLE, m.MEDIA_TYPE, m.SUFFIX) for name, m in modules.items()}


def default_models(available: Mapping[str, bool | None]) -> list[str]:
    """The models of a job that names none: each of `DEFAULT_MODELS`, or what stands in for it. Empty where none loads.

    available: model → whether it can be loaded, None where nobody knows. Those that are known to load are preferred:
    others are taken only while none of all these is.
    """
    for answer in (True, None):
        found = [
            next((name for name in (wanted, *STAND_INS[wanted]) if available.get(name, False) is answer), None)
            for wanted in DEFAULT_MODELS
        ]
        if any(found):
            return [name for name in found if name]
    return []


def known(kind: str, name: Any, entries: Mapping[str, Any]) -> Any:
    """The entry of that name. Raises `UnknownName` listing those there are."""
    if not isinstance(name, str) or name not in entries:
        raise UnknownName(f"there is no {kind} {shown(name)}; there are: {', '.join(sorted(entries))}")
    return entries[name]


#: In place of a number of pixels: pictures as large as the video is.
AS_DECODED = "decoded"


@dataclass(frozen=True)
class CommonKeyFrames(Declared):
    """Settings of key frames that every strategy has.

    picture_px: the longest side of the pictures that are kept, from that of small pictures to that of the largest
    videos.
    """

    picture_px: int | Literal["decoded"] = within(960, least=320, most=8192)


@dataclass(frozen=True)
class CommonClustering(Declared):
    """Settings of a clustering that every algorithm has. pca_dimensions: for the scaling `pca`."""

    scaling: Literal[*SCALINGS] = "l2"  # type: ignore[valid-type]
    pca_dimensions: int = within(64, least=1, most=2**32 - 1)
    seed: int = within(0, least=0, most=2**32 - 1)


#: The same by name, with their defaults.
COMMON_KEY_FRAMES = dataclasses.asdict(CommonKeyFrames())
COMMON_CLUSTERING = {"algorithm": DEFAULT_ALGORITHM, **dataclasses.asdict(CommonClustering())}


def strategy_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """`{"strategy": …, "picture_px": …, parameters}` completed with every default.

    Raises `UnknownName` or `BadParameter`.
    """
    name = given.get("strategy", DEFAULT_STRATEGY)
    known("key-frame strategy", name, strategies())
    module = _modules("services.keyframes.strategies")[name]
    return _completed({"strategy": name}, CommonKeyFrames, module.Parameters, given)


def clustering_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """`{"algorithm": …, "scaling": …, "seed": …, parameters}` completed with every default.

    Raises `UnknownName` or `BadParameter`.
    """
    name = given.get("algorithm", DEFAULT_ALGORITHM)
    known("clustering algorithm", name, algorithms())
    module = _modules("services.clustering.algorithms")[name]
    return _completed({"algorithm": name}, CommonClustering, module.Parameters, given)


def _completed(
    named: Mapping[str, str], common: type[Declared], own: type[Declared], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What is given of an entry's parameters and of those that all entries have, checked and with every default."""
    [(family, name)] = named.items()
    of_all = {parameter.name for parameter in declared(common)}
    for_all = {field: value for field, value in given.items() if field in of_all}
    for_it = {field: value for field, value in given.items() if field not in {*of_all, family}}
    made = make(common, for_all, family), make(own, for_it, f"{family} {name}")
    return {**named, **{field: value for part in made for field, value in dataclasses.asdict(part).items()}}


def canonical_sha256(value: Any) -> str:
    """SHA-256 of the value's canonical JSON: sorted keys, no spaces, so that equal values have equal names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
