"""Are the locked packages free of known security advisories? Asks OSV, or a copy of its records on this machine.

    python -m checks.advisories                      # asks api.osv.dev
    python -m checks.advisories --database FOLDER    # unpacked OSV records: a clone of pypa/advisory-database, for one

Exit codes: 0 none is known, 1 some are, 3 could not be told because no database was to be had.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import requests
import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from shared.errors import one_line

LOCKS = ("requirements/lock.txt", "requirements/torch.txt", "requirements/images/flower.txt")
OSV_URL = "https://api.osv.dev/v1/querybatch"
TIMEOUT_S = 20
MAX_PAGES = 50
EXIT_FOUND, EXIT_UNKNOWN = 1, 3


@dataclass(frozen=True)
class Finding:
    """One advisory about one locked package."""

    package: str
    version: str
    id: str
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.package} {self.version}: {' '.join([self.id, *self.aliases])}"


def locked(texts: Sequence[str]) -> dict[str, str]:
    """Package → version, as lock files name them."""
    found = (match for text in texts for match in re.finditer(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", text, re.MULTILINE))
    return {canonicalize_name(match[1]): match[2] for match in found}


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Whether one `affected` entry of an OSV record holds the version (https://ossf.github.io/osv-schema).

    Where it cannot be told, because a version in it is none that Python knows, it does.
    """
    if version in affected.get("versions", ()):
        return True
    ranges = [each for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM"]
    return any(_is_in_range(Version(version), each["events"]) for each in ranges)


def _is_in_range(version: Version, events: Sequence[Mapping[str, str]]) -> bool:
    try:
        ordered = sorted((Version(text), what) for event in events for what, text in event.items())
    except InvalidVersion:
        return True
    inside = False
    for bound, what in ordered:
        if what == "introduced" and version >= bound:
            inside = True
        elif (what == "fixed" and version >= bound) or (what == "last_affected" and version > bound):
            inside = False
    return inside


def in_folder(folder: Path, packages: Mapping[str, str]) -> Iterator[Finding]:
    """What the records below a folder say, in YAML or JSON. Raises FileNotFoundError when it holds no record."""
    paths = sorted([*folder.rglob("*.yaml"), *folder.rglob("*.json")])
    if not paths:
        raise FileNotFoundError(f"{folder} holds no advisory")
    for path in paths:
        record = yaml.safe_load(path.read_text())  # JSON is YAML
        if record.get("withdrawn"):
            continue
        for affected in record.get("affected", ()):
            named = affected.get("package", {})  # a record about a repository alone names none
            package = canonicalize_name(named.get("name", ""))
            version = packages.get(package)
            if named.get("ecosystem") == "PyPI" and version and is_affected(version, affected):
                yield Finding(package, version, record["id"], tuple(record.get("aliases", ())))


def at_osv(packages: Mapping[str, str], url: str) -> Iterator[Finding]:
    """What OSV says, to the last page. Raises OSError when it cannot be asked."""
    queries: list[dict[str, Any]] = [
        {"package": {"name": name, "ecosystem": "PyPI"}, "version": v} for name, v in packages.items()
    ]
    for _ in range(MAX_PAGES):
        answer = requests.post(url, data=json.dumps({"queries": queries}), timeout=TIMEOUT_S)
        answer.raise_for_status()
        further = []
        for query, result in zip(queries, answer.json()["results"], strict=True):
            for record in result.get("vulns", ()):
                yield Finding(query["package"]["name"], query["version"], record["id"])
            if token := result.get("next_page_token"):
                further.append({**query, "page_token": token})
        if not further:
            return
        queries = further
    raise OSError(f"{url} has more than {MAX_PAGES} pages about {queries[0]['package']['name']}")


def _reason(error: OSError) -> str:
    # What the connection says of itself is a page of objects and addresses.
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        host = urlsplit(OSV_URL).hostname
        return f"{host} could not be reached; name a folder of OSV records with --database (make audit ADVISORIES=…)"
    return f"no database of advisories was to be had: {one_line(error)}"


@click.command()
@click.option("--database", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of records.")
def main(database: Path | None) -> None:
    """Look the locked packages up. Exit code 1: advisories are known; 3: no database was to be had."""
    packages = locked([Path(lock).read_text() for lock in LOCKS])
    try:
        findings = list(in_folder(database, packages) if database else at_osv(packages, OSV_URL))
    except OSError as error:
        click.echo(f"Not audited, because {_reason(error)}.", err=True)
        sys.exit(EXIT_UNKNOWN)
    for finding in findings:
        click.echo(str(finding))
    click.echo(f"{len(packages)} locked packages, {len(findings)} known advisories")
    sys.exit(EXIT_FOUND if findings else 0)


if __name__ == "__main__":
    main()
