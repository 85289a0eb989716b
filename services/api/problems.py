"""Every error that the API answers, in one table, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from apiflask import APIFlask, HTTPError
from flask import Request, Response, current_app, g, make_response, request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, UnsupportedMediaType
from werkzeug.routing import RequestRedirect

from services.api.form_files import exhaustion
from shared.db import is_contended, is_passing
from shared.errors import TransientError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
#: Methods that change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: A body of 10,000 mistakes helps nobody.
MAX_ERRORS = 100
#: Values of a JSON body, counted by the commas and brackets in it: 10,000 URLs may have four commas each.
MAX_JSON_VALUES = 50_000
#: Nor does a sentence that repeats a value of megabytes.
MAX_SENTENCE = 1000

#: Status -> (end of the type's URN, title). What is not here answers with HTTP's own phrase and `about:blank`.
TYPES: dict[int, tuple[str, str]] = {
    400: ("bad-request", "The request cannot be read"),
    401: ("unauthorized", "A key is needed"),
    403: ("forbidden", "This is not allowed"),
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "The resource does not do this"),
    409: ("conflict", "The resource is in a state that does not allow this"),
    410: ("gone", "What this was about is deleted"),
    413: ("too-large", "The request is larger than allowed"),
    415: ("unsupported-media-type", "The body is of a kind that cannot be read here"),
    416: ("no-such-part", "The file does not have the part that is asked for"),
    422: ("invalid-request", "The request holds a value that cannot be used"),
    429: ("too-many-requests", "Too many requests"),
    431: ("headers-too-large", "The request's headers are larger than allowed"),
    500: ("internal-error", "Something went wrong inside Reelmap"),
    503: ("unavailable", "Reelmap cannot answer right now"),
}

#: Sentences for what werkzeug would say in words for programmers.
_DETAILS = {
    404: "There is no such address. An id in it needs at least its first 8 characters.",
    405: "This address exists, but not with this method.",
    413: "The body is larger than this address takes.",
}

#: (field, message): what is wrong with which field, `videos.3` or `clustering.n_clusters`.
FieldError = tuple[str, str]

Model = TypeVar("Model", bound=BaseModel)


class Refusal(Exception):
    """What was asked for is not done. `detail` is a sentence for a person; `errors` name the fields."""

    status = 500
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class Malformed(Refusal):
    """The body cannot be read at all."""

    status = 400

    def __init__(self, detail: str) -> None:
        super().__init__(detail, [("body", detail)])


class Unauthorized(Refusal):
    """Nobody may do this without a key, or not with this one."""

    status = 401
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="Reelmap"'})


class Forbidden(Refusal):
    """Who asks may not do this."""

    status = 403


class NotFound(Refusal):
    """There is no such thing, or not in this project. field: the part of the address that names it."""

    status = 404

    def __init__(self, detail: str, field: str) -> None:
        super().__init__(detail, [(field, detail)])


class Conflict(Refusal):
    """The thing is in a state that does not allow it."""

    status = 409


class Gone(Refusal):
    """There was such a thing, and it is deleted."""

    status = 410


class TooLarge(Refusal):
    """More than one call may hold."""

    status = 413


class HeadersTooLarge(Refusal):
    """Headers that nothing should parse."""

    status = 431


class TooMany(Refusal):
    """Asked too often."""

    status = 429

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(retry_after_s)}


class Invalid(Refusal):
    """Some values cannot be used."""

    status = 422

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(_summary(errors), errors)


def invalid(field: str, message: str) -> NoReturn:
    """Refuse one field."""
    raise Invalid([(field, message)])


def parse(model: type[Model], data: Any) -> Model:
    """`data` as `model`. Raises `Invalid` naming every field that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Invalid(
            [(".".join(map(str, each["loc"])) or "body", _sentence(each)) for each in error.errors()]
        ) from None


def _sentence(error: ErrorDetails) -> str:
    if error["type"] == "too_short":  # of a list, which a person who left a field empty does not know as one
        return f"at least {error['ctx']['min_length']} is needed"
    return _own_words(error["msg"])


def _own_words(message: str) -> str:
    return message.removeprefix("Value error, ")  # Pydantic's, before what our own checks say


def _summary(errors: Sequence[FieldError]) -> str:
    field, message = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{field}: {message}{more}"


def problem(
    status: int,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
) -> Response:
    """The answer that says what went wrong."""
    slug, title = TYPES.get(status, (None, None))
    body = {
        "type": f"urn:reelmap:problem:{slug}" if slug else "about:blank",
        "title": title or HTTPException(detail).name,
        "status": status,
        "detail": _short(detail),
        "errors": [{"field": _short(field), "message": _short(message)} for field, message in errors[:MAX_ERRORS]],
        "request_id": request_id(),
    }
    response = make_response(body, status)
    response.headers.extend(dict(headers))
    response.mimetype = MEDIA_TYPE
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= MAX_SENTENCE else sentence[:MAX_SENTENCE] + "…"


def request_id() -> str:
    """What names this request in its answer and in the log."""
    if "request_id" not in g:
        given = request.headers.get("X-Request-ID", "")
        usable = given.isascii() and given.replace("-", "").isalnum() and len(given) <= 64
        g.request_id = given if usable else uuid.uuid4().hex
    found: str = g.request_id
    return found


class ApiRequest(Request):
    """A request whose JSON is bounded before it is parsed; what is broken is told apart from other bad requests."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as Python values. Raises `Malformed` or `TooLarge`."""
        body = self.get_data()
        # Each value costs some fifty times its bytes, and one that is wrong a sentence.
        if sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
            raise TooLarge(f"The body holds more than {MAX_JSON_VALUES:,} values; send the rest in another request.")
        return super().get_json(force, silent, cache)

    def on_json_loading_failed(self, e: ValueError | None) -> NoReturn:
        raise Malformed(f"The body is not valid JSON: {e}.")


def require_json() -> None:
    """Refuse bodies of another kind where JSON is read.

    APIFlask would parse anything as JSON; a form that another site's page sends must not pass for one.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    takes_json = getattr(view, "_spec", {}).get("content_type") == "application/json"
    if takes_json and not request.is_json:
        raise UnsupportedMediaType(f"The body must be application/json, not {request.mimetype or 'of no stated kind'}.")
    if takes_json and not isinstance(request.get_json(), dict):
        invalid("body", "the body must be a JSON object")  # APIFlask would take null for an empty one


def register(app: APIFlask) -> None:
    """Answer every error of `app` by the table above."""
    app.register_error_handler(Refusal, _from_refusal)
    app.register_error_handler(HTTPError, _from_validation)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(DBAPIError, _from_database)
    app.register_error_handler(PoolTimeout, _from_database)
    app.register_error_handler(TransientError, _from_store)
    app.register_error_handler(OSError, _from_system)
    app.register_error_handler(RecursionError, _from_deep_nesting)


def _from_refusal(error: Refusal) -> Response:
    return problem(error.status, error.detail, error.errors, error.headers)


def _from_validation(error: HTTPError) -> Response:
    # APIFlask: {location: {field: [messages]}}, with `_schema` for the whole.
    errors = [
        (_field(location, field), _own_words(message))
        for location, fields in error.detail.items()
        for field, messages in fields.items()
        for message in messages
    ]
    return problem(error.status_code, _summary(errors), errors)


def _field(location: str, name: str) -> str:
    if name == "_schema":
        return "body"
    return name.replace("_", "-").title() if location == "headers" else name


def _from_http(error: HTTPException) -> Response | HTTPException:
    if isinstance(error, RequestRedirect) or error.code is None:
        return error
    if error.code == 500:
        return problem(500, f"Something went wrong inside Reelmap; its log has the details under {request_id()}.")
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return problem(error.code, _DETAILS.get(error.code) or error.description or error.name, headers=headers)


def _from_database(error: DBAPIError | PoolTimeout) -> Response:
    if not (isinstance(error, PoolTimeout) or is_passing(error)):
        raise error
    first_line, fields = str(error).splitlines()[0], {"request_id": request_id()}
    if is_contended(error):
        logger.warning("others were in the way for too long: %s", first_line, extra=fields)
        return problem(
            503,
            "This took too long, because others change the same right now or the database is busy. Nothing was done. "
            "Try again in a few seconds.",
        )
    logger.warning("the database did not answer: %s", first_line, extra=fields)
    return problem(503, f"The database does not answer right now. {_what_to_do_again()}")


def _what_to_do_again() -> str:
    """What a person can do after the database went away: perhaps between doing what was asked and saying so."""
    if request.method in SAFE_METHODS:
        return "Try again in a few seconds."
    if "Idempotency-Key" in request.headers:
        return (
            "What was asked may have been done or not. Send it again in a few seconds under the same Idempotency-Key; "
            "it is not done twice."
        )
    return "What was asked may have been done or not: look in a few seconds, before you ask for it again."


def _from_store(error: TransientError) -> Response:
    logger.warning("%s", error, extra={"request_id": request_id()})
    return problem(503, f"{error.message}. Try again in a few seconds.")


def _from_system(error: OSError) -> Response:
    # Where the process has run out of descriptors, anything may be what could not be opened.
    if (exhausted := exhaustion(error)) is None:
        raise error
    return _from_store(exhausted)


def _from_deep_nesting(error: RecursionError) -> Response:
    return _from_refusal(Malformed("The body is nested too deeply."))
