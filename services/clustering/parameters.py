"""Checks that the algorithms' parameters have in common.

Values come from people's JSON, so types are checked too. Every message starts with the name of the field, so that
the API can point at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeGuard

# A number; "auto": chosen by silhouette, with the evidence kept; None: `sweep.default_n_clusters`.
NClusters = int | Literal["auto"] | None


def check_n_clusters(value: object) -> None:
    """Raise ValueError unless `value` is an `NClusters`."""
    if value is None or value == "auto":
        return
    if not _is_whole(value) or value < 1:
        raise ValueError(f'n_clusters must be a whole number from 1, "auto", or left out; not {value!r}')


def check_whole(name: str, value: object, *, least: int, optional: bool = False) -> None:
    """Raise ValueError unless `value` is a whole number of at least `least` (or None, where `optional`)."""
    if value is None and optional:
        return
    if not _is_whole(value) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}{', or left out' * optional}; not {value!r}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; not {value!r}")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
