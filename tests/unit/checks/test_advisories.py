"""Advisories are matched to locked versions as the OSV schema says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from checks import advisories
from checks.advisories import Finding, in_folder, is_affected, locked

ROOT = Path(__file__).parents[3]


def affected(*events, versions=()):
    return {
        "package": {"ecosystem": "PyPI", "name": "Some_Package"},
        "versions": list(versions),
        "ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}, {"type": "ECOSYSTEM", "events": list(events)}],
    }


def test_lock_files_are_read_without_hashes_and_markers():
    text = "some-package==1.2.3 \\\n    --hash=sha256:00\nOther.One==2.0 ; sys_platform == 'linux' \\\n"
    assert locked([text]) == {"some-package": "1.2.3", "other-one": "2.0"}


def test_the_lock_files_of_the_project_are_read_whole():
    packages = locked([(ROOT / lock).read_text() for lock in advisories.LOCKS])
    assert {"celery", "torch", "pillow", "flask"} <= set(packages)


@pytest.mark.parametrize(
    ("version", "is_in"), [("0.9", False), ("1.0", True), ("1.9", True), ("2.0", False), ("3.0", True), ("3.5", True)]
)
def test_a_range_goes_from_introduced_to_fixed(version, is_in):
    # In any order, and with a second range that has no end.
    events = ({"introduced": "3.0"}, {"fixed": "2.0"}, {"introduced": "1.0"})
    assert is_affected(version, affected(*events)) is is_in


def test_the_last_affected_version_is_affected():
    events = ({"introduced": "0"}, {"last_affected": "1.5"})
    assert is_affected("1.5", affected(*events)) and not is_affected("1.6", affected(*events))


def test_versions_may_be_listed():
    assert is_affected("1.0rc1", affected(versions=["1.0rc1"]))


def test_a_folder_of_records(tmp_path):
    record = {"id": "PYSEC-1", "aliases": ["CVE-1"], "affected": [affected({"introduced": "0"}, {"fixed": "2"})]}
    (tmp_path / "a.json").write_text(json.dumps(record))
    (tmp_path / "b.yaml").write_text(json.dumps({**record, "id": "PYSEC-2", "withdrawn": "2026-01-01T00:00:00Z"}))
    assert list(in_folder(tmp_path, {"some-package": "1.0"})) == [Finding("some-package", "1.0", "PYSEC-1", ("CVE-1",))]
    assert list(in_folder(tmp_path, {"some-package": "2.0"})) == []


def test_an_empty_folder_is_no_clean_bill(tmp_path):
    result = CliRunner().invoke(advisories.main, ["--database", str(tmp_path)])
    assert result.exit_code == advisories.EXIT_UNKNOWN
    assert "Not audited" in result.output


def test_what_is_found_fails(tmp_path):
    record = {"id": "PYSEC-1", "affected": [affected({"introduced": "0"})]}
    record["affected"][0]["package"]["name"] = "celery"
    (tmp_path / "a.json").write_text(json.dumps(record))
    result = CliRunner().invoke(advisories.main, ["--database", str(tmp_path)])
    assert result.exit_code == advisories.EXIT_FOUND
    assert "PYSEC-1" in result.output
