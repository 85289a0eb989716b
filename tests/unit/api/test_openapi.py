"""The OpenAPI document says what the API does, and its page loads from our own server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.api.app import create_app
from shared.settings import Settings


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """An application whose database is not there: the document needs none."""
    folder: Path = tmp_path_factory.mktemp("api")
    settings = Settings(
        database_url=f"postgresql+psycopg2:///reelmap?host={folder}", blobs_folder=folder, own_models={}, access="open"
    )
    return create_app(settings).test_client()


@pytest.fixture(scope="module")
def document(client) -> dict:
    return client.get("/api/v1/openapi.json").json


def operations(document: dict):
    for path, by_method in document["paths"].items():
        for method, operation in by_method.items():
            yield f"{method} {path}", operation


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_error_is_said_to_be_a_problem_document(document):
    for name, operation in operations(document):
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert {"500", "503"} <= set(errors), name
        for status, answer in errors.items():
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }, (name, status)


def test_every_reference_leads_to_a_part_and_every_part_is_referred_to(document):
    parts = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) == parts


def test_every_address_with_an_id_says_that_it_is_a_uuid_and_may_be_missing(document):
    for name, operation in operations(document):
        ids = [parameter for parameter in operation["parameters"] if parameter["in"] == "path"]
        assert len(ids) == name.count("{")
        for parameter in ids:
            assert parameter["required"] is True
            assert parameter["schema"]["format"] == "uuid"
            assert "404" in operation["responses"], name


def test_bodies_refuse_fields_that_they_do_not_know(document):
    schemas = document["components"]["schemas"]
    for name, operation in operations(document):
        for media in operation.get("requestBody", {"content": {}})["content"].values():
            body = media["schema"]
            if reference := body.get("$ref"):
                body = schemas[reference.rsplit("/", 1)[-1]]
            if body["type"] == "object" and "file" not in body["properties"]:
                assert body["additionalProperties"] is False, name
    for name in ("ClusteringSettings", "KeyFrameSettings"):
        assert schemas[name]["additionalProperties"] is False
    assert {"n_clusters", "scaling", "seed", "min_cluster_size"} <= set(schemas["ClusteringSettings"]["properties"])


def test_the_progress_of_a_job_says_which_stages_it_has(document):
    progress = document["components"]["schemas"]["Job"]["properties"]["progress"]
    assert progress["description"] == "by stage: keyframes, embedding, clustering"
    assert progress["additionalProperties"]["$ref"].endswith("/StageProgress")


def test_what_is_accepted_says_where_to_look(document):
    for name, operation in operations(document):
        if "202" in operation["responses"]:
            assert set(operation["responses"]["202"]["headers"]) == {"Location", "Retry-After"}, name


def test_the_document_is_of_a_version_that_the_page_can_show_and_says_so_of_nothing_else(document):
    assert document["openapi"] == "3.0.3"
    assert document["servers"] == [{"url": "/"}]
    text = str(document)
    assert "'type': 'null'" not in text
    assert "'propertyNames'" not in text
    assert "const" not in re.findall(r"'(\w+)':", text)


def test_operations_have_names_of_their_own(document):
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)


def test_the_page_of_the_documentation_asks_no_other_server_and_runs_no_inline_script(client):
    page = client.get("/api/v1/docs").text
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert not re.search(r"<script(?![^>]* src=)", page)
    loaded = re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 3
    for address in loaded:
        with client.get(address if address.startswith("/") else f"/api/v1/{address}") as answer:
            assert answer.status_code == 200, address


@pytest.mark.parametrize("name", ["index.html", "../__init__.py", "%2e%2e/__init__.py"])
def test_only_the_files_of_the_page_are_given_out(client, name):
    assert client.get(f"/api/v1/docs/{name}").status_code == 404
