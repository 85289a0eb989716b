"""Advisories are matched to locked versions as the OSV schema says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from checks import advisories
from checks.advisories import Finding, at_osv, in_folder, is_affected, locked

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


@pytest.mark.parametrize(
    "events",
    [
        ({"introduced": "1.0"}, {"fixed": "2004d-beta-x"}),
        ({"introduced": "0"}, {"last_affected": "unknown"}),
        ({"introduced": "r12"}, {"fixed": "2.0"}),
    ],
)
def test_a_range_that_cannot_be_read_counts_as_affected(events):
    assert is_affected("3.0", affected(*events))


def test_versions_may_be_listed():
    assert is_affected("1.0rc1", affected(versions=["1.0rc1"]))


def test_a_folder_of_records(tmp_path):
    record = {"id": "PYSEC-1", "aliases": ["CVE-1"], "affected": [affected({"introduced": "0"}, {"fixed": "2"})]}
    (tmp_path / "a.json").write_text(json.dumps(record))
    (tmp_path / "b.yaml").write_text(json.dumps({**record, "id": "PYSEC-2", "withdrawn": "2026-01-01T00:00:00Z"}))
    assert list(in_folder(tmp_path, {"some-package": "1.0"})) == [Finding("some-package", "1.0", "PYSEC-1", ("CVE-1",))]
    assert list(in_folder(tmp_path, {"some-package": "2.0"})) == []


def test_a_record_that_names_no_package_is_passed_over(tmp_path):
    nameless = {"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}
    record = {"id": "PYSEC-1", "affected": [nameless, {**nameless, "package": {}}, affected({"introduced": "0"})]}
    (tmp_path / "a.json").write_text(json.dumps(record))
    assert list(in_folder(tmp_path, {"some-package": "1.0"})) == [Finding("some-package", "1.0", "PYSEC-1")]


@pytest.fixture
def osv() -> Iterator[str]:
    """The URL of a server with as many pages about each package as its version says, and one advisory on each."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            results = [page(int(query["version"]), int(query.get("page_token", 1))) for query in asked["queries"]]
            said = json.dumps({"results": results}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None: ...

    def page(pages: int, number: int) -> dict[str, object]:
        if not pages:
            return {}
        more = {"next_page_token": str(number + 1)} if number < pages else {}
        return {"vulns": [{"id": f"OSV-{number}"}], **more}

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/querybatch"
        server.shutdown()
        thread.join()


def test_osv_is_read_to_its_last_page(osv):
    found = [str(finding) for finding in at_osv({"one": "1", "none": "0", "three": "3"}, osv)]
    assert found == ["one 1: OSV-1", "three 3: OSV-1", "three 3: OSV-2", "three 3: OSV-3"]


def test_pages_without_an_end_are_no_clean_bill(osv, monkeypatch):
    monkeypatch.setattr(advisories, "MAX_PAGES", 3)
    with pytest.raises(OSError, match="more than 3 pages about many"):
        list(at_osv({"many": "4"}, osv))


def test_where_osv_cannot_be_reached_a_sentence_says_so_and_what_to_do(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(advisories, "OSV_URL", f"http://127.0.0.1:{port}/v1/querybatch")
    result = CliRunner().invoke(advisories.main)
    assert result.exit_code == advisories.EXIT_UNKNOWN
    assert result.output == (
        "Not audited, because 127.0.0.1 could not be reached; "
        "name a folder of OSV records with --database (make audit ADVISORIES=…).\n"
    )


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
