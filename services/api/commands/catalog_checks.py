"""Checks names and parameters against the catalog, and says which field is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from services.api.problems import FieldError, Invalid, invalid
from services.api.queries.catalog import list_models
from shared import catalog
from shared.catalog import UnknownName
from shared.parameters import BadParameter
from shared.settings import Settings


def check_models(connection: Connection, settings: Settings, names: Iterable[tuple[str, str]]) -> None:
    """Raise `Invalid` for models that do not exist, or that are known not to work right now.

    names: (field, name of a model).
    """
    entries = {entry.name: entry for entry in list_models(connection, settings)}
    errors: list[FieldError] = []
    for field, name in names:
        if name not in entries:
            errors.append((field, f"there is no model {name!r}; there are: {', '.join(sorted(entries))}"))
        elif problem := entries[name].problem:
            errors.append((field, problem))
    if errors:
        raise Invalid(errors)


def key_frame_settings(given: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The strategy with all its parameters. Raises `Invalid` naming the field below `field`."""
    return _complete(given, field, "strategy", catalog.strategy_settings)


def clustering_settings(given: Mapping[str, Any], field: str = "") -> dict[str, Any]:
    """The algorithm with all its parameters. Raises `Invalid` naming the field below `field`."""
    return _complete(given, field, "algorithm", catalog.clustering_settings)


def _complete(
    given: Mapping[str, Any], field: str, name: str, complete: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    prefix = f"{field}." if field else ""
    try:
        return complete({key: value for key, value in given.items() if key != name or value is not None})
    except UnknownName as error:
        invalid(prefix + name, str(error))
    except BadParameter as error:
        invalid(prefix + error.field, str(error))


def default_models(connection: Connection, settings: Settings) -> list[str]:
    """The models of a job that names none. Raises `Invalid` when none of them can be loaded."""
    entries = {entry.name: entry for entry in list_models(connection, settings)}
    chosen = catalog.default_models({name: entry.available for name, entry in entries.items()})
    if not chosen:
        others = ", ".join(name for name, entry in entries.items() if entry.available)
        advice = f"name others: {others}" if others else "see `reelmap doctor`"
        why = " ".join(entries[name].problem or "" for name in catalog.DEFAULT_MODELS)
        invalid("models", f"no model that a job takes by default can be loaded here; {advice}. {why}")
    return chosen
