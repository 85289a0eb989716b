"""`reelmap export` against the real API and the real handler, over HTTP."""

from __future__ import annotations

import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.cli import commands
from tests.integration.api.test_command_line import serving

pytestmark = pytest.mark.integration

NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def reelmap(app, tmp_path, monkeypatch):
    """Runs a command against the application, in a folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    with serving(app) as address:

        def run(*arguments: object) -> Result:
            given = [*map(str, arguments), "--server", address]
            return CliRunner().invoke(commands, given, catch_exceptions=False)

        yield run


@pytest.fixture
def worker(write) -> Iterator[None]:
    """Does export tasks as they come."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.05):
            write()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture
def job_id(submit, workers) -> str:
    """A finished job of 2 videos with 3 key frames each, in 2 clusters."""
    job_id = submit(2)["id"]
    workers.finish(job_id)
    return job_id


@pytest.fixture
def clustering(client, job_id) -> dict:
    return client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"][0]


@pytest.mark.usefixtures("worker")
def test_a_job_becomes_a_file_with_a_name_of_its_own(reelmap, job_id):
    result = reelmap("export", job_id)
    assert result.exit_code == 0, result.output
    [path] = Path.cwd().iterdir()
    assert result.stdout == f"{path.name}\n" and path.name.startswith("reelmap-job-")
    assert "6 key frames" in result.stderr
    assert len(zipfile.ZipFile(path).namelist()) == 7
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.usefixtures("worker")
def test_what_a_person_names_is_exported_where_they_say(reelmap, client, clustering, job_id, service, tmp_path):
    cluster = client.get(clustering["links"]["clusters"]).json["clusters"][0]
    folder = tmp_path / "into"
    folder.mkdir()
    for name, arguments, count in (
        ("a.zip", ["--clustering", clustering["id"]], None),
        ("b.jsonl", ["--cluster", cluster["id"], "--format", "jsonl"], 3),
        ("c.jsonl", [job_id, "--key-frame", cluster["medoid"]["id"], "--limit", 4, "--format", "jsonl"], 4),
    ):
        result = reelmap("export", *arguments, "-o", folder / name)
        assert result.exit_code == 0, result.output
        if count is not None:
            assert len((folder / name).read_text().splitlines()) == count
    result = reelmap("export", job_id, "-o", folder, "--format", "jsonl", "--json")
    answer = json.loads(result.stdout)
    assert Path(answer["file"]).parent == folder and answer["state"] == "succeeded"
    assert sorted(path.suffix for path in folder.iterdir()) == [".jsonl"] * 3 + [".zip"]


@pytest.mark.usefixtures("worker")
def test_a_file_that_is_there_stays_unless_somebody_says_otherwise(reelmap, job_id):
    Path("mine.zip").write_bytes(b"mine")
    refused = reelmap("export", job_id, "-o", "mine.zip")
    assert (refused.exit_code, "mine.zip is there already" in refused.output) == (2, True)
    assert Path("mine.zip").read_bytes() == b"mine"
    assert reelmap("export", job_id, "-o", "mine.zip", "--force").exit_code == 0
    assert zipfile.is_zipfile(io.BytesIO(Path("mine.zip").read_bytes()))
    assert [path.name for path in Path.cwd().iterdir()] == ["mine.zip"]


@pytest.mark.usefixtures("worker")
def test_what_fails_leaves_no_file(reelmap, job_id, service):
    with service.database.transaction() as connection:
        names = list(connection.exec_driver_sql("SELECT blob FROM key_frames").scalars())
    service.blobs.delete(names)
    result = reelmap("export", job_id)
    assert (result.exit_code, "is not in the store any more" in result.output) == (1, True)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [NOWHERE, "--cluster", NOWHERE],
        ["--cluster", NOWHERE, "--clustering", NOWHERE],
        [NOWHERE, "--limit", "3"],
        ["--cluster", NOWHERE, "--model", "hog_color"],
        [NOWHERE, "--format", "exe"],
        [NOWHERE, "--key-frame", NOWHERE, "--limit", "0"],
    ],
)
def test_a_command_that_says_too_much_or_too_little_is_refused(reelmap, arguments):
    assert reelmap("export", *arguments).exit_code == 2
    assert list(Path.cwd().iterdir()) == []


def test_nothing_to_export_is_said(reelmap, submit):
    result = reelmap("export", submit(1)["id"])
    assert (result.exit_code, "no key frames yet" in result.output) == (1, True)


@pytest.mark.parametrize("out", ["-", "nowhere/a.zip"])
def test_a_place_that_no_file_can_have_is_refused(reelmap, job_id, out):
    assert reelmap("export", job_id, "-o", out).exit_code == 2


@pytest.mark.usefixtures("worker")
def test_short_ids_do_and_what_they_are_of_none_is_said(reelmap, client, job_id, clustering):
    [cluster, *_] = client.get(f"/api/v1/clusterings/{clustering['id']}/clusters").json["clusters"]
    key_frame = cluster["medoid"]["id"]
    for number, subject in enumerate(
        (
            [job_id[:8]],
            ["--clustering", clustering["id"][:8]],
            ["--cluster", cluster["id"][:8]],
            ["--key-frame", key_frame[:8]],
        )
    ):
        result = reelmap("export", *subject, "-o", f"{number}.jsonl")
        assert result.exit_code == 0, result.output
    result = reelmap("export", NOWHERE[:8])
    assert (result.exit_code, result.stderr) == (1, "Error: There is no job 00000000.\n")


@pytest.mark.usefixtures("worker")
def test_the_name_of_the_file_says_the_format_unless_an_option_does(reelmap, job_id):
    assert reelmap("export", job_id, "-o", "all.jsonl").exit_code == 0
    assert len([json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]) == 6
    assert reelmap("export", job_id, "-o", "packed.jsonl", "--format", "zip").exit_code == 0
    assert zipfile.is_zipfile("packed.jsonl")
