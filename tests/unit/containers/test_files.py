"""The files that make containers agree with the lock, with the version and with the settings there are."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.local.up import PROCESSES
from shared.settings import NOT_SETTINGS, Settings, file_variable_of, is_secret, variable_of

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE_FILES = (
    "docker-compose.yml",
    "compose.gpu.yml",
    "compose.s3.yml",
    "compose.bucket.yml",
    "tests/compose/compose.yml",
)
#: Images that hold what is in no environment of the tests.
OF_THEIR_OWN = {"build", "flower"}


def compose(file: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())
    return loaded


def locked(path: Path) -> dict[str, str]:
    """Each requirement with its marker, and the hashes it is held to."""
    requirements = re.findall(r"^(\S+==[^\\\n]*?) \\\n((?: +--hash=\S+(?: \\)?\n)+)", path.read_text(), re.MULTILINE)
    assert requirements, path
    return {re.sub(r" ;.*", "", name): hashes.replace(" \\", "") for name, hashes in requirements}


@pytest.mark.parametrize("path", sorted((ROOT / "requirements" / "images").glob("*.txt")), ids=lambda path: path.stem)
def test_an_image_holds_what_was_tested(path):
    tested = locked(ROOT / "requirements" / "lock.txt")
    different = {name for name, hashes in locked(path).items() if tested.get(name) != hashes}
    if path.stem in OF_THEIR_OWN:
        named = {name.partition("==")[0] for name in different}
        versions = {name.partition("==")[0] for name in tested}
        assert not named & versions, "what both have is of the same version"
    else:
        assert different == set()


def test_every_service_has_its_lock_and_its_target():
    services = {"embedding" if name == "query" else name for name in PROCESSES}
    assert {path.stem for path in (ROOT / "requirements" / "images").glob("*.txt")} == services | OF_THEIR_OWN
    assert services <= set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.findall(r"^ARG VERSION=(\S+)$", DOCKERFILE, re.MULTILINE) == [version]
    for file in COMPOSE_FILES:
        assert set(re.findall(r"\$\{VERSION:-([^}]+)\}", (ROOT / file).read_text())) <= {version}, file


@pytest.mark.parametrize("file", [*COMPOSE_FILES, "Dockerfile"])
def test_every_variable_is_a_setting(file):
    known = {variable_of(field) for field in fields(Settings)}
    known |= {file_variable_of(field) for field in fields(Settings) if is_secret(field)}
    set_there = set(re.findall(r"\b(REELMAP_[A-Z0-9_]+)(?:=|: )", (ROOT / file).read_text()))
    assert set_there
    assert set_there - known - NOT_SETTINGS - {"REELMAP_NAME"} == set()


def test_compose_runs_every_process_as_its_image_or_says_otherwise():
    services = compose("docker-compose.yml")["services"]
    for name, (module, *arguments) in PROCESSES.items():
        command = services[name].get("command")
        if command is None:
            target = services[name]["build"]["target"]
            part = re.search(rf"^FROM \S+ AS {target}\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
            assert part
            command = re.findall(r'"([^"]+)"', re.findall(r"^CMD (.*)$", part[1], re.MULTILINE)[-1])
        assert command == ["python", "-m", module, *arguments], name


@pytest.mark.parametrize("file", COMPOSE_FILES)
def test_no_image_of_compose_floats(file):
    for name, service in compose(file)["services"].items():
        image = service.get("image", "pinned:by-the-first-file")
        assert ":" in image, name
        assert not image.endswith(":latest") or name == "videos", name


def test_every_container_of_compose_is_confined():
    """What can be read from the file; `make compose-test` looks at the running ones."""
    for name, service in compose("docker-compose.yml")["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        if name != "flower":
            assert "healthcheck" in service or service["image"].startswith("reelmap-"), name


def test_who_may_leave():
    services = compose("docker-compose.yml")["services"]
    assert compose("docker-compose.yml")["networks"]["back"] == {"internal": True}
    assert {name for name, service in services.items() if "out" in service["networks"]} == {"keyframes", "weights"}
    assert {name for name, service in services.items() if "front" in service["networks"]} == {"api", "flower", "s3"}
