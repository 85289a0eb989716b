"""The OpenAPI document, and the page that shows it, both from our own server.

APIFlask collects the document from the views. What it does not know is added here: problem documents for every error,
bodies that are not JSON, headers, and the parameters that the catalog's entries take. The document is OpenAPI 3.0,
because the page's Swagger UI refuses 3.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from apiflask import APIFlask
from flask import Response, render_template, send_from_directory

from services.api import paths, problems
from services.api.schemas.answers import PendingSearch, Problem
from services.api.schemas.requests import SearchRequest
from shared import catalog
from shared.parameters import Parameter, declared
from shared.pictures import MEDIA_TYPES

CONFIG: Mapping[str, Any] = {
    "OPENAPI_VERSION": "3.0.3",
    # Not from the first request's Host header, which anybody may choose.
    "AUTO_SERVERS": False,
    "SERVERS": [{"url": "/"}],
    # Every error is a problem document, which APIFlask does not know.
    "AUTO_VALIDATION_ERROR_RESPONSE": False,
    "AUTO_404_RESPONSE": False,
    "AUTO_OPERATION_ID": True,
    "DESCRIPTION": (
        "Submit video URLs, watch the job, look at the clusters of its key frames, search by picture. "
        "Times are RFC 3339 in UTC, ids are UUIDs, lists are paged by opaque cursors, unknown query parameters are "
        "ignored, and every error is an `application/problem+json` document (RFC 9457) that names the fields."
    ),
}

_SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")

_SCHEMAS = "#/components/schemas"
_BINARY = {"type": "string", "format": "binary"}
_ID = {"type": "string", "format": "uuid"}

#: Bodies that are not JSON, or not only.
_BODIES: Mapping[tuple[str, str], Mapping[str, Any]] = {
    (f"{paths.API}/uploads", "post"): {
        "application/octet-stream": {"schema": _BINARY},
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
        },
    },
    (f"{paths.API}/search", "post"): {
        "application/json": {"schema": {"$ref": f"{_SCHEMAS}/SearchRequest"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["picture"],
                "additionalProperties": False,
                "properties": {
                    "picture": {**_BINARY, "description": "JPEG, PNG or WebP"},
                    "jobs": {"type": "string", "description": "ids with commas between them"},
                    "model": {"type": "string"},
                    "limit": {"type": "integer", "minimum": 1, "maximum": 500},
                },
            },
        },
    },
}

#: Its kind is that of the export's format.
_FILE_OF_EXPORT = f"{paths.API}/exports/{{export_id}}/file"

#: Health is for everybody, so it never asks for a key nor counts requests.
_FOR_EVERYBODY = frozenset({"/livez", "/readyz"})
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": (
        "A key that `reelmap keys add` made. Readers look and search, writers also submit, change and delete, admins "
        "also make keys. A Reelmap that is open to its own machine only (REELMAP_ACCESS=open) asks for none."
    ),
}

_LOCATION = {"Location": {"description": "where to look", "schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
_ETAG = {"ETag": {"schema": {"type": "string"}}}


def register(app: APIFlask) -> None:
    """Complete the document of `app`, and serve its page at `/api/v1/docs`."""
    app.spec_processor(complete)  # type: ignore[arg-type]

    @app.get(f"{paths.API}/docs")
    @app.doc(hide=True)
    def docs() -> str:
        return render_template("docs.html")

    @app.get(f"{paths.API}/docs/<path:name>")
    @app.doc(hide=True)
    def docs_file(name: str) -> Response:
        from swagger_ui_bundle import swagger_ui_path

        if name not in _SWAGGER_FILES:
            raise problems.NotFound(f"The page of the documentation has no file {name}.", "name")
        return send_from_directory(swagger_ui_path, name, max_age=86400)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document as APIFlask made it, with everything that it leaves out."""
    document["paths"] = _plain(document["paths"])
    # APIFlask names a part `Whole.Part`, once for every whole.
    schemas = {name.rsplit(".", 1)[-1]: _plain(each) for name, each in document["components"]["schemas"].items()}
    document["components"]["schemas"] = schemas
    schemas.pop("HTTPError", None)  # APIFlask's own shape of an error
    for model in (Problem, SearchRequest, PendingSearch):
        schema = model.model_json_schema(ref_template=_SCHEMAS + "/{model}")
        schemas |= _plain({**schema.pop("$defs", {}), model.__name__: schema})
    _describe_settings(schemas)
    document["components"]["securitySchemes"] = {"key": _BEARER}
    document["security"] = [{"key": []}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)
    return document


def _plain(node: Any) -> Any:
    """A JSON Schema of Pydantic in the words of OpenAPI 3.0: no type null, no const, parts by their own name."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: _plain(value) for key, value in node.items() if key != "title" or not isinstance(value, str)}
    node.pop("propertyNames", None)  # which OpenAPI 3.0 does not know
    if isinstance(ref := node.get("$ref"), str):
        node["$ref"] = f"{_SCHEMAS}/" + ref.rsplit("/", 1)[-1].rsplit(".", 1)[-1]
    if "const" in node:
        node["enum"] = [node.pop("const")]
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        choices.remove({"type": "null"})
        if len(choices) > 1:
            choices[0] = {**choices[0], "nullable": True}
        else:
            del node["anyOf"]
            only = choices[0]
            node = {**node, "nullable": True, **({"allOf": [only]} if "$ref" in only else only)}
    if node.get("default", 0) is None:
        del node["default"]
    return node


def _describe_settings(schemas: dict[str, Any]) -> None:
    """Name the parameters that the catalog's algorithms and strategies take; others are refused."""
    algorithms, strategies = catalog.algorithms(), catalog.strategies()
    key_frames = {parameter.name: _schema_of(parameter) for parameter in declared(catalog.CommonKeyFrames)}
    common = {parameter.name: _schema_of(parameter) for parameter in declared(catalog.CommonClustering)}
    for name, entries, more in (
        ("KeyFrameSettings", strategies, key_frames),
        ("ClusteringSettings", algorithms, common),
        ("ClusteringRequest", algorithms, common),
    ):
        if name not in schemas:
            continue
        parameters: dict[str, Any] = dict(more)
        for entry in entries.values():
            for parameter in entry.parameters:
                known = parameters.setdefault(parameter.name, {})
                words = f"{entry.name}: {parameter.takes}; default {json.dumps(parameter.default)}"
                known["description"] = "; ".join(filter(None, [known.get("description"), words]))
        field = "strategy" if name == "KeyFrameSettings" else "algorithm"
        schemas[name]["properties"][field] |= {"enum": [*entries, None], "nullable": True}
        schemas[name]["properties"] |= parameters
        schemas[name]["additionalProperties"] = False


def _schema_of(parameter: Parameter) -> dict[str, Any]:
    choices: list[dict[str, Any]] = []
    if int in parameter.kinds:
        choices.append({"type": "integer", "minimum": parameter.bounds["least"], "maximum": parameter.bounds["most"]})
    if parameter.choices:
        choices.append({"type": "string", "enum": list(parameter.choices)})
    description = f"{parameter.takes}; default {json.dumps(parameter.default)}"
    return {**(choices[0] if len(choices) == 1 else {"anyOf": choices}), "description": description}


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    if (path, method) in _BODIES:
        operation["requestBody"] = {"content": dict(_BODIES[path, method])}
    errors = {403, 431, 500, 503}
    if path in _FOR_EVERYBODY:
        operation["security"] = []
    else:
        errors |= {401, 429}
    for parameter in operation["parameters"]:
        errors |= _complete_parameter(parameter)
    if "requestBody" in operation:
        operation["requestBody"]["required"] = True
        errors |= {400, 413, 422}
        if "application/json" in operation["requestBody"]["content"]:
            errors.add(415)
    responses = operation["responses"]
    errors |= {int(status) for status in responses if int(status) >= 400}
    for status in sorted(errors):
        responses[str(status)] = _problem(status)
    if path == _FILE_OF_EXPORT:
        for found in ("200", "206"):
            responses[found]["content"] = {each.media_type: {"schema": _BINARY} for each in catalog.formats().values()}
    if "202" in responses:
        responses["202"].setdefault("headers", {}).update(_LOCATION | _RETRY_AFTER)
        if "200" in responses:
            responses["202"]["content"] = {"application/json": {"schema": {"$ref": f"{_SCHEMAS}/PendingSearch"}}}
    _name_pictures(responses)
    if "304" in responses:
        responses["304"] = {"description": "It is as the ETag of the request says", "headers": _ETAG}
        responses["200"].setdefault("headers", {}).update(_ETAG)


def _name_pictures(responses: dict[str, Any]) -> None:
    """Say which pictures a query picture may be, in place of any."""
    for response in responses.values():
        if picture := response.get("content", {}).pop("image/*", None):
            response["content"] |= dict.fromkeys(MEDIA_TYPES.values(), picture)


def _complete_parameter(parameter: dict[str, Any]) -> set[int]:
    """Returns the errors that it may lead to."""
    if parameter["in"] == "path":
        parameter |= {"required": True, "schema": _ID}
        return {404}
    # Left out is not null: an address has no way to say null.
    parameter["schema"].pop("nullable", None)
    if parameter["in"] == "header":
        parameter["name"] = parameter["name"].title()
    return {410, 422} if parameter["name"] == "Idempotency-Key" else {422}


def _problem(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": problems.TYPES[status][1],
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}/Problem"}}},
    }
    if status in (429, 503):
        response["headers"] = dict(_RETRY_AFTER)
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return response
