"""A whole examination: of servers by settings, of a data folder that runs, and of one that does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli import commands
from services.local.checks.check import Finding, Verdict
from services.local.doctor import CHECKS, examine
from services.local.supervisor import Supervisor
from shared.db import migrate

pytestmark = pytest.mark.integration

#: Without the hub, which a test does not ask.
BASE = {"REELMAP_HUB": "no"}


def examined(environ: Mapping[str, str], folder: Path | None = None) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine({**BASE, **environ}, folder)}


def verdicts(findings: Mapping[str, Finding], *checks: str) -> set[Verdict]:
    return {findings[check].verdict for check in checks}


def test_servers_that_the_settings_name(database_url, redis_url, tmp_path):
    environ = {
        "REELMAP_DATABASE_URL": database_url,
        "REELMAP_REDIS_URL": redis_url,
        "REELMAP_BLOBS_FOLDER": str(tmp_path),
    }
    findings = examined(environ)
    assert set(findings) == {"settings", *(check.name for check in CHECKS)}
    assert verdicts(findings, "settings", "Postgres", "schema", "clocks", "Redis", "folders") == {Verdict.GOOD}
    assert verdicts(findings, "workers", "stuck tasks", "messages", "pictures") == {Verdict.GOOD}
    assert findings["dispatcher"].verdict is Verdict.BAD


def test_servers_that_do_not_answer_are_said_once_and_what_needs_them_is_unknown():
    findings = examined(
        {
            "REELMAP_DATABASE_URL": "postgresql+psycopg2://reelmap:secret@127.0.0.1:9/reelmap",
            "REELMAP_REDIS_URL": "redis://:secret@127.0.0.1:9/0",
        }
    )
    assert findings["reaching Postgres"].verdict is Verdict.BAD
    assert "Connection refused" in findings["reaching Postgres"].says
    assert "Start it, or correct REELMAP_DATABASE_URL." in findings["reaching Postgres"].says
    assert "correct REELMAP_REDIS_URL" in findings["reaching Redis"].says
    assert verdicts(findings, "Postgres", "schema", "Redis", "dispatcher", "messages") == {Verdict.UNKNOWN}
    assert "secret" not in str(findings)


def test_a_setting_that_cannot_be_read_is_said():
    findings = examined({"REELMAP_LEASE_S": "soon"})
    assert findings["settings"].says == "REELMAP_LEASE_S is 'soon'; expected a number."
    assert findings["folders"].says == "The settings cannot be read."


def test_a_data_folder_that_runs_and_then_does_not(tmp_path):
    folder = tmp_path / "reelmap"
    supervisor = Supervisor(folder, migrate=migrate, children=lambda *_: (), say=lambda line: None, durable=False)
    (folder / "blobs").mkdir()
    with supervisor:
        supervisor.start()
        findings = examined({}, folder)
        assert findings["data folder"].says == f"{folder} holds a Reelmap, which runs."
        assert verdicts(findings, "Postgres", "schema", "Redis", "workers", "folders") == {Verdict.GOOD}
        assert findings["dispatcher"].verdict is Verdict.BAD
    findings = examined({}, folder)
    assert findings["data folder"].says == f"{folder} holds a Reelmap, which does not run now."
    assert verdicts(findings, "Postgres", "schema", "pictures") == {Verdict.GOOD}
    assert findings["Redis"] == Finding("Redis", Verdict.UNKNOWN, "It does not run now; `reelmap up` starts it.")
    assert findings["dispatcher"].verdict is Verdict.UNKNOWN


def test_a_bucket_beside_pictures_in_the_data_folder_is_said(tmp_path):
    (tmp_path / "blobs" / "pictures").mkdir(parents=True)
    findings = examined({"REELMAP_BLOBS_BUCKET": "theirs", "REELMAP_S3_ENDPOINT": "http://127.0.0.1:9"}, tmp_path)
    assert findings["data folder"].verdict is Verdict.BAD
    assert "REELMAP_BLOBS_BUCKET is theirs, and there are pictures in" in findings["data folder"].says
    assert findings["store"].verdict is Verdict.UNKNOWN, "it is not written into"


def test_a_schema_that_does_not_fit_is_said_once(postgres_server, redis_url):
    url = postgres_server.create_database("not_migrated")
    findings = examined({"REELMAP_DATABASE_URL": url, "REELMAP_REDIS_URL": redis_url})
    assert findings["schema"].verdict is Verdict.BAD
    assert verdicts(findings, "dispatcher", "workers", "pictures") == {Verdict.UNKNOWN}
    postgres_server.drop_database("not_migrated")


def test_what_a_person_sees(tmp_path):
    done = CliRunner(env=BASE).invoke(commands, ["doctor", "--folder", str(tmp_path)])
    assert done.exit_code == 1
    assert f"✗  data folder    There is no Reelmap in {tmp_path}; name its --folder." in done.stdout
    assert "✓  packages" in done.stdout and "–  Postgres" in done.stdout
    assert done.stderr.endswith(" things to mend.\n")
    answer = json.loads(CliRunner(env=BASE).invoke(commands, ["doctor", "--folder", str(tmp_path), "--json"]).stdout)
    assert answer["ok"] is False
    assert {"check": "settings", "verdict": "good", "says": "Every setting can be used."} in answer["findings"]
