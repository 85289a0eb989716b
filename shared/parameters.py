"""How a family's parameters are declared, and the one check of them: what the API accepts, the worker accepts.

A family declares its parameters as a frozen dataclass below `Declared`: the annotation says what kind of value each
takes, `within` between which bounds a number must lie. Making one checks it, whoever makes it, with values as they come
from people's JSON: any type, any size, NaN. Pure.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, TypeVar

from shared.clean_text import quoted

#: Of a value that is quoted because it is wrong.
MOST_SHOWN_CHARACTERS = 60
#: Larger whole numbers are not spelled out, and Python would refuse to.
MOST_SHOWN_BITS = 192

AnyDeclared = TypeVar("AnyDeclared", bound="Declared")

#: Kinds of values: what people call them in a message, and what the catalog calls their type.
_KINDS = {
    int: ("a whole number", "integer"),
    float: ("a number", "number"),
    str: ("a text", "text"),
    bool: ("true or false", "boolean"),
    Mapping: ("an object", "object"),
    NoneType: ("nothing", "null"),
}


class BadParameter(ValueError):
    """A parameter that there is not, or a value that it does not take. The message starts with or names the field.

    field: the parameter's name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def within(default: Any, *, least: float | None = None, above: float | None = None, most: float) -> Any:
    """A field whose numbers lie between bounds: from `least`, or above `above`, up to `most`."""
    assert (least is None) != (above is None)
    return dataclasses.field(default=default, metadata={"least": least, "above": above, "most": most})


@dataclass(frozen=True)
class Parameter:
    """One declared parameter. default: `dataclasses.MISSING` where it must be given."""

    name: str
    default: Any
    kinds: tuple[Any, ...]
    choices: tuple[str, ...]
    bounds: Mapping[str, Any]

    @property
    def type(self) -> str:
        """The kinds of values in the words of JSON: `integer | "auto" | null`."""
        choices = [json.dumps(choice) for choice in self.choices]
        return " | ".join([*self._of_kinds(1, NoneType), *choices, *self._of_kinds(1, *set(_KINDS) - {NoneType})])

    @property
    def takes(self) -> str:
        """What a value may be, as people say it: `a whole number from 1 to 1000, "auto", or nothing`."""
        words = [f"{word}{self._bounds()}" for word in self._of_kinds(0, bool, str, Mapping, NoneType)]
        words += [word for word in self._of_kinds(0, int, float, NoneType)]
        words += [json.dumps(choice) for choice in self.choices]
        words += self._of_kinds(0, *set(_KINDS) - {NoneType})
        return ", or ".join(filter(None, (", ".join(words[:-1]), words[-1])))

    def _of_kinds(self, which: int, *without: Any) -> list[str]:
        return [_KINDS[kind][which] for kind in self.kinds if kind not in without]

    def _bounds(self) -> str:
        if not self.bounds:
            return ""
        least, above, most = self.bounds["least"], self.bounds["above"], self.bounds["most"]
        return f" above {above} and up to {most}" if least is None else f" from {least} to {most}"

    def checked(self, value: Any) -> Any:
        """The value, a whole one as float where numbers are asked for. Raises `BadParameter` for any other."""
        if value is None and NoneType in self.kinds:
            return value
        if isinstance(value, str) and (str in self.kinds or value in self.choices):
            return value
        if isinstance(value, bool):  # which Python takes for a whole number
            if bool in self.kinds:
                return value
        elif isinstance(value, int) and int in self.kinds and self._is_within(value):
            return value
        elif isinstance(value, int | float) and float in self.kinds and self._is_within(value):
            return float(value)
        elif isinstance(value, Mapping) and Mapping in self.kinds:
            return value
        raise BadParameter(self.name, f"{self.name} is {shown(value)}; it takes {self.takes}")

    def _is_within(self, value: float) -> bool:
        if not self.bounds:
            return value == value and abs(value) != float("inf")
        least, above, most = self.bounds["least"], self.bounds["above"], self.bounds["most"]
        return bool((value > above if least is None else value >= least) and value <= most)  # NaN is neither


@dataclass(frozen=True)
class Declared:
    """Base of the dataclasses that declare parameters. Making one raises `BadParameter`, a ValueError."""

    def __post_init__(self) -> None:
        for parameter in declared(type(self)):
            object.__setattr__(self, parameter.name, parameter.checked(getattr(self, parameter.name)))


def declared(family: type[Declared]) -> tuple[Parameter, ...]:
    """The parameters that a dataclass declares, in its order."""
    hints = typing.get_type_hints(family)
    return tuple(
        Parameter(field.name, field.default, *_taken(hints[field.name]), field.metadata)
        for field in dataclasses.fields(family)
    )


def _taken(hint: Any) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The kinds and the words that an annotation allows."""
    if typing.get_origin(hint) is Literal:
        return (), typing.get_args(hint)
    plain = typing.get_origin(hint) if typing.get_origin(hint) in _KINDS else hint
    if plain in _KINDS:
        return (plain,), ()
    parts = [_taken(part) for part in typing.get_args(hint)]
    assert parts, f"{hint} is no kind of value that a parameter can have"
    return sum((kinds for kinds, _ in parts), ()), sum((choices for _, choices in parts), ())


def make(family: type[AnyDeclared], given: Mapping[str, Any], whose: str) -> AnyDeclared:
    """The parameters with `given` over their defaults. Raises `BadParameter`.

    whose: what has them, for people: "algorithm kmeans", or "it" where the sentence names it already.
    """
    known = declared(family)
    names = [parameter.name for parameter in known]
    for name in given:
        if name not in names:
            has = f"its parameters are: {', '.join(names)}" if names else "it has none"
            raise BadParameter(quoted(name), f"{whose} has no parameter {shown(name)}; {has}")
    for parameter in known:
        if parameter.default is dataclasses.MISSING and parameter.name not in given:
            raise BadParameter(parameter.name, f"{parameter.name} is missing; it takes {parameter.takes}")
    return family(**given)


def shown(value: Any) -> str:
    """A wrong value within a sentence: as JSON has it, and short, whatever was given."""
    if isinstance(value, int) and value.bit_length() > MOST_SHOWN_BITS:
        return f"a number of {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, str):
        return repr(_cut(quoted(value)))
    try:
        return _cut(quoted(json.dumps(value, ensure_ascii=False, default=repr)))
    except (ValueError, RecursionError):  # a number too long for Python within it, or nested too deeply
        return f"a {type(value).__name__} that cannot be shown"


def _cut(line: str) -> str:
    return line if len(line) <= MOST_SHOWN_CHARACTERS else line[:MOST_SHOWN_CHARACTERS] + "…"
