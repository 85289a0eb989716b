"""Which models, algorithms and key-frame strategies there are, with their dimensions and parameters.

Every file in `services/embedding/models/`, `services/clustering/algorithms/` and `services/keyframes/strategies/` is an
entry; the file's name is the entry's name. Those files import their heavy library only inside functions, so the API
lists and checks all of them without having torch. This is the one place where `shared` looks into `services`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import pkgutil
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from shared.weights import HuggingFace, TorchvisionMember, Weights

DEFAULT_MODELS = ("efficientnet_b0", "vit_mae_base")
DEFAULT_STRATEGY = "shots"
DEFAULT_ALGORITHM = "kmeans"

#: What can be done to the vectors before they are clustered.
SCALINGS = {
    "standard": "each dimension to mean 0 and variance 1, as scikit-learn's StandardScaler does",
    "none": "the vectors as the model gave them",
    "l2": "each vector to length 1, so that distances order like cosine",
    "pca": "standardised, then projected on the first principal components",
}


class UnknownName(ValueError):
    """No entry of that name."""


class BadParameter(ValueError):
    """A parameter that the entry does not have, or a value that it does not take.

    field: the parameter's name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Parameter:
    """One parameter of an algorithm or a strategy."""

    name: str
    type: str
    default: Any


@dataclass(frozen=True)
class Entry:
    """One algorithm or strategy: `version` is None where results carry none."""

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    version: int | None = None
    max_vectors: int | None = None


@dataclass(frozen=True)
class OwnModel:
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

    def missing_weights(self, weights_dir: Path | None, hub: bool) -> str | None:
        """A sentence when the weights are known to be missing, else None (there, or perhaps on the hub)."""
        weights = self.weights
        if weights is None or not weights.names or weights.in_folder(weights_dir):
            return None
        if (weights.packaged and weights.packaged.path()) or (weights.hub and hub):
            return None
        where = f"in {weights_dir}" if weights_dir else "(REELMAP_WEIGHTS_DIR is not set)"
        names = " or ".join(weights.names)
        switched_off = " and the hub is switched off (REELMAP_HUB)" if weights.hub else ""
        return (
            f"The weights of {self.name} are missing: no {names} {where}{switched_off}. "
            "Put them there, or choose another model."
        )


@cache
def _modules(package: str) -> dict[str, ModuleType]:
    """The modules of `package`, by name."""
    folder = importlib.import_module(package)
    names = sorted(info.name for info in pkgutil.iter_modules(folder.__path__) if not info.name.startswith("_"))
    return {name: importlib.import_module(f"{package}.{name}") for name in names}


def _parameters(module: ModuleType) -> tuple[Parameter, ...]:
    hints = typing.get_type_hints(module.Parameters)
    return tuple(
        Parameter(field.name, _words(hints[field.name]), field.default)
        for field in dataclasses.fields(module.Parameters)
    )


def _words(hint: Any) -> str:
    if hint is type(None):
        return "null"
    if typing.get_origin(hint) is Literal:
        return " | ".join(json.dumps(value) for value in typing.get_args(hint))
    if typing.get_args(hint):
        return " | ".join(_words(part) for part in typing.get_args(hint))
    return {int: "integer", float: "number", str: "text", bool: "boolean"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


def strategies() -> dict[str, Entry]:
    """The key-frame strategies, by name."""
    modules = _modules("services.keyframes.strategies")
    return {name: Entry(name, m.TITLE, _parameters(m), version=m.VERSION) for name, m in modules.items()}


def algorithms() -> dict[str, Entry]:
    """The clustering algorithms, by name."""
    modules = _modules("services.clustering.algorithms")
    return {name: Entry(name, m.TITLE, _parameters(m), max_vectors=m.MAX_VECTORS) for name, m in modules.items()}


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
            own = OwnModel(**given)
        except TypeError as error:
            raise BadParameter(name, f"own_models: {name}: {error}") from None
        if own.library not in ("torchvision", "transformers"):
            raise BadParameter(name, f"own_models: {name}: library is {own.library!r}; torchvision or transformers")
        if own.pooling not in ("class_token", "mean", "pooler"):
            raise BadParameter(name, f"own_models: {name}: pooling is {own.pooling!r}; class_token, mean or pooler")
        entries[name] = Model(name, f"own model ({own.library})", None, _own_weights(own), own)
    return entries


def _own_weights(own: OwnModel) -> Weights:
    if own.library == "torchvision":
        is_member = re.fullmatch(r"\w+_Weights\.\w+", own.weights)
        return Weights(hub=TorchvisionMember(own.weights)) if is_member else Weights((own.weights,))
    return Weights((own.weights,), hub=None if Path(own.weights).is_absolute() else HuggingFace(own.weights))


def known(kind: str, name: str, entries: Mapping[str, Any]) -> Any:
    """The entry of that name. Raises `UnknownName` listing those there are."""
    if name not in entries:
        raise UnknownName(f"there is no {kind} {name!r}; there are: {', '.join(sorted(entries))}")
    return entries[name]


#: In place of a number of pixels: pictures as large as the video is.
AS_DECODED = "decoded"
#: The longest side that may be asked for: from that of small pictures to that of the largest videos.
PICTURE_PX_RANGE = (320, 8192)
#: Settings of key frames that every strategy has: the longest side of the pictures that are kept.
COMMON_KEY_FRAMES = {"picture_px": 960}


def strategy_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """`{"strategy": …, parameters}` completed with every default.

    Raises `UnknownName` or `BadParameter`.
    """
    common = {**COMMON_KEY_FRAMES, **{name: value for name, value in given.items() if name in COMMON_KEY_FRAMES}}
    given = {field: value for field, value in given.items() if field not in common}
    name = given.pop("strategy", DEFAULT_STRATEGY)
    known("key-frame strategy", name, strategies())
    value, (least, most) = common["picture_px"], PICTURE_PX_RANGE
    if value != AS_DECODED and (type(value) is not int or not least <= value <= most):
        raise BadParameter(
            "picture_px", f'picture_px is {value!r}; a whole number from {least} to {most}, or "{AS_DECODED}"'
        )
    module = _modules("services.keyframes.strategies")[name]
    return {"strategy": name, **common, **_checked_parameters(f"strategy {name}", module, given)}


#: Settings of a clustering that every algorithm has.
COMMON_CLUSTERING = {"algorithm": DEFAULT_ALGORITHM, "scaling": "standard", "pca_dimensions": 64, "seed": 0}


def clustering_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """`{"algorithm": …, "scaling": …, "seed": …, parameters}` completed with every default.

    Raises `UnknownName` or `BadParameter`.
    """
    common = {**COMMON_CLUSTERING, **{name: value for name, value in given.items() if name in COMMON_CLUSTERING}}
    name = common["algorithm"]
    known("clustering algorithm", name, algorithms())
    if not isinstance(common["scaling"], str) or common["scaling"] not in SCALINGS:
        raise BadParameter("scaling", f"scaling is {common['scaling']!r}; one of {', '.join(SCALINGS)}")
    for field, least in (("seed", 0), ("pca_dimensions", 1)):
        value = common[field]
        if type(value) is not int or not least <= value < 2**32:
            raise BadParameter(field, f"{field} is {value!r}; a whole number from {least} to {2**32 - 1}")
    module = _modules("services.clustering.algorithms")[name]
    rest = {field: value for field, value in given.items() if field not in COMMON_CLUSTERING}
    return {**common, **_checked_parameters(f"algorithm {name}", module, rest)}


def _checked_parameters(what: str, module: ModuleType, given: Mapping[str, Any]) -> dict[str, Any]:
    fields = {field.name for field in dataclasses.fields(module.Parameters)}
    for name in given:
        if name not in fields:
            there = ", ".join(sorted(fields)) or "none"
            raise BadParameter(name, f"{what} has no parameter {name!r}; its parameters are: {there}")
    try:
        return dataclasses.asdict(module.Parameters(**given))
    except (ValueError, TypeError) as error:
        # By the convention of `Parameters` the message starts with the field's name.
        word = str(error).split(" ", 1)[0].rstrip(":")
        field = word if word in fields else next(iter(given), "")
        raise BadParameter(field, str(error)) from None


def canonical_sha256(value: Any) -> str:
    """SHA-256 of the value's canonical JSON: sorted keys, no spaces, so that equal values have equal names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
