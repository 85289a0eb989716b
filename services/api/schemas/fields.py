"""What requests and answers are made of: ids, times, names, and the bases of both."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.clean_text import one_clean_line

#: At most so many URLs in one call; more by `POST /jobs/{id}/sources`.
MAX_URLS = 10_000
MAX_JOBS_OF_A_SEARCH = 100
MAX_EXPORTED_RESULTS = 10_000
MAX_MODEL_NAME = 200
MAX_GIVEN_NAME = 200
MAX_FILE_NAME = 255

ID_PATTERN = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


def _beginning_of_an_id() -> str:
    """Groups of 8, 4, 4, 4 and 12 digits with dashes between them, of which all but the first may be cut off."""
    digit, pattern = "[0-9a-fA-F]", ""
    for digits in (12, 4, 4, 4):
        pattern = f"(?:-{digit}{{0,{digits - 1}}}|-{digit}{{{digits}}}{pattern})?"
    return f"{digit}{{8}}{pattern}"


#: Without anchors. See `short_ids`.
ID_BEGINNING = _beginning_of_an_id()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("it holds a character that cannot be stored (NUL, or half of a surrogate pair)")
    return text


def at_most(characters: int) -> Callable[[str], str]:
    """A check that a text is no longer than that."""

    def check(text: str) -> str:
        if len(text) > characters:
            raise ValueError(f"it may have at most {characters} characters")
        return text

    return check


def _id_of_a_job(text: str) -> str:
    if not re.fullmatch(ID_PATTERN, text):
        raise ValueError("this is not the id of a job")
    return text


def _beginning(text: str) -> str:
    if not re.fullmatch(ID_BEGINNING, text):
        raise ValueError("this is no id, nor the beginning of one, which has at least 8 characters")
    return text.lower()


def printable(text: str) -> str:
    """The text without white space around it. Raises ValueError when nothing of it can be shown, or not all."""
    if not text.isprintable() or not text.strip():
        raise ValueError("it is empty, or holds a character that cannot be shown")
    return text.strip()


def split(value: Any) -> Any:
    """A list that is written as text with commas; what is no text stays as it is."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


#: In UTC, to the second below.
Time = Annotated[datetime, AfterValidator(_utc)]
Id = Annotated[str, Field(pattern=ID_PATTERN, json_schema_extra={"format": "uuid"})]
#: An id in a request, or its beginning: `short_ids.completed` puts the whole one in its place.
GivenId = Annotated[str, AfterValidator(_beginning), Field(json_schema_extra={"pattern": f"^{ID_BEGINNING}$"})]
JobId = Annotated[str, AfterValidator(_id_of_a_job), Field(json_schema_extra={"pattern": ID_PATTERN, "format": "uuid"})]
Words = Annotated[str, AfterValidator(_storable)]
ModelName = Annotated[
    Words, AfterValidator(at_most(MAX_MODEL_NAME)), Field(json_schema_extra={"maxLength": MAX_MODEL_NAME})
]
#: What a person calls a job or a clustering; empty is no name. Cleaned and not refused, because people paste what a
#: page or a terminal gave them.
GivenName = Annotated[
    str,
    AfterValidator(at_most(MAX_GIVEN_NAME)),
    AfterValidator(one_clean_line),
    Field(json_schema_extra={"maxLength": MAX_GIVEN_NAME}),
]


class Request(BaseModel):
    """A body: unknown fields are refused, so that a typing mistake does not pass as a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Query(BaseModel):
    """Parameters in the address or in headers: unknown ones are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Settings(BaseModel):
    """Settings whose further fields are the parameters of what they name; `shared.catalog` checks them."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Answer(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True)
