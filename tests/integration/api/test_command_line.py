"""`reelmap`'s commands against the real API on a real Postgres, over HTTP."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from apiflask import APIFlask
from click.testing import CliRunner, Result
from werkzeug.serving import make_server

from services.cli import commands
from services.client import Client
from shared.errors import ErrorKind

pytestmark = pytest.mark.integration

NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def server(app: APIFlask) -> Iterator[str]:
    """The address of the application."""
    with serving(app) as address:
        yield address


@contextmanager
def serving(app: APIFlask) -> Iterator[str]:
    """Answers for this application at an address."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def reelmap(server: str):
    """Runs a command against the application."""

    def run(*arguments: object) -> Result:
        arguments = (*(str(argument) for argument in arguments), "--server", server)
        return CliRunner().invoke(commands, arguments, catch_exceptions=False)

    return run


@pytest.fixture
def answered(reelmap):
    """Runs a command with `--json`; what it printed, which must be JSON and nothing else."""

    def run(*arguments: object, exit_code: int = 0) -> dict:
        result = reelmap(*arguments, "--json")
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture
def finished(answered, workers) -> str:
    """The id of a job of two videos that went through all stages."""
    job = answered("submit", "https://a.example/1.mp4", "https://a.example/2.mp4", "--model", "hog_color")
    workers.finish(job["id"])
    return job["id"]


def test_a_list_of_jobs_is_empty_before_the_first(answered, reelmap) -> None:
    assert answered("jobs") == {"jobs": []}
    assert reelmap("jobs").exit_code == 0


def test_urls_files_folders_and_lists_become_one_job(answered, reelmap, tmp_path: Path) -> None:
    for name in ("clips/a.mp4", "clips/b.txt", "single.bin"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "list.txt").write_text("# more\nhttps://a.example/2.mp4\n")
    settings = ["--name", "n", "--model", "hog_color", "--algorithm", "hdbscan", "--strategy", "uniform"]
    settings += ["--set", "every_s=2", "--seed", "3", "--scaling", "l2"]
    result = reelmap(
        "submit",
        "https://a.example/1.mp4",
        tmp_path / "clips",
        tmp_path / "single.bin",
        "-f",
        tmp_path / "list.txt",
        *settings,
        "--json",
    )
    assert result.exit_code == 0, result.output
    assert "Left out 1 file that" in result.stderr
    job = json.loads(result.stdout)
    assert (job["name"], job["models"], job["sources"]) == ("n", ["hog_color"], 4)
    assert job["key_frames"] == {"strategy": "uniform", "every_s": 2, "picture_px": 960}
    assert job["clustering"].items() >= {"algorithm": "hdbscan", "seed": 3, "scaling": "l2"}.items()
    sources = answered("sources", job["id"])["sources"]
    assert [source["url"].partition(":")[0] for source in sources] == ["https", "upload", "upload", "https"]
    assert [source["title"] for source in sources][1:3] == ["a.mp4", "single.bin"]


def test_what_the_api_refuses_is_said_with_the_field(reelmap) -> None:
    result = reelmap("submit", "https://a.example/1.mp4", "--model", "magic")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "models" in result.stderr
    assert "magic" in result.stderr


def test_a_file_that_is_too_large_is_refused_with_a_sentence(reelmap, tmp_path: Path) -> None:
    (tmp_path / "large.mp4").write_bytes(b"x" * 100_001)
    result = reelmap("submit", tmp_path / "large.mp4")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


def test_status_shows_a_job_and_the_reason_of_each_failed_source(answered, reelmap, workers) -> None:
    job_id = answered("submit", "https://a.example/1.mp4", "https://a.example/2.mp4", "--model", "hog_color")["id"]
    workers.fail(job_id, ErrorKind.NOT_FOUND, "The server has no [such] file.")
    workers.finish(job_id)
    result = reelmap("status", job_id)
    assert result.exit_code == 0
    assert "partly failed: key frames 2/2" in result.stdout
    assert "The server has no [such] file." in result.stdout
    watched = reelmap("status", job_id, "--watch", "--json")
    assert json.loads(watched.stdout)["state"] == "partly_failed"
    assert "partly failed" in watched.stderr


def test_sources_shows_every_attempt_where_asked_for(answered, reelmap, workers) -> None:
    job = answered("submit", "https://a.example/1.mp4", "--model", "hog_color")
    workers.fail(job["id"], ErrorKind.NOT_FOUND, "nothing is there")
    without = reelmap("sources", job["id"])
    assert without.exit_code == 0 and "attempt" not in without.stdout
    shown = " ".join(reelmap("sources", job["id"], "--attempts").stdout.split())
    assert "failed nothing is there" in shown and "attempt by started took outcome reason" in shown


def test_status_shows_why_embedding_failed_and_that_it_did(answered, reelmap, workers) -> None:
    job_id = answered("submit", "https://a.example/1.mp4", "--model", "hog_color")["id"]
    workers.extract(job_id)
    workers.fail(job_id, ErrorKind.WEIGHTS_MISSING, "There are no [weights].", queue="embedding")
    result = reelmap("status", job_id)
    assert "failed: key frames 1/1, embedding 1/1 (1 failed)" in result.stdout
    assert "Failed: embedding with hog_color, 1 task: There are no [weights]." in result.stdout


def test_waiting_for_a_job_that_fails_is_exit_code_1(answered, reelmap, workers) -> None:
    job_id = answered("submit", "https://a.example/1.mp4", "--model", "hog_color")["id"]
    workers.fail(job_id, ErrorKind.NOT_FOUND, "No such file.")
    assert reelmap("status", job_id, "--watch").exit_code == 1
    assert answered("retry", job_id)["state"] == "running"
    assert answered("cancel", job_id)["state"] == "cancelled"
    assert reelmap("status", job_id, "--watch").exit_code == 1


def test_submit_with_wait_stays_until_the_job_is_over(server: str, answered, workers) -> None:
    def work() -> None:
        client = Client(server)
        while not (jobs := list(client.jobs())):
            pass
        workers.finish(jobs[0]["id"])

    worker = threading.Thread(target=work)
    worker.start()
    job = answered("submit", "https://a.example/1.mp4", "--model", "hog_color", "--wait")
    worker.join()
    assert job["state"] == "succeeded"


def test_clusters_of_a_job_are_those_of_its_newest_clusterings(answered, reelmap, finished: str) -> None:
    [clustering] = answered("clusters", finished)["clusterings"]
    assert [cluster["label"] for cluster in clustering["clusters"]] == [0, 1]
    assert answered("clusters", clustering["id"]) == answered("clusters", finished)
    assert len(answered("clusters", finished, "--limit", "1")["clusterings"][0]["clusters"]) == 1
    shown = reelmap("clusters", finished).stdout
    assert "hog_color, kmeans, 2 clusters of 6 key frames: succeeded" in shown
    assert "a note" in shown
    result = reelmap("clusters", finished, "--model", "vit_mae_base")
    assert (result.exit_code, result.stdout) == (1, "")


def test_noise_is_the_last_row(answered, reelmap, workers) -> None:
    job_id = answered("submit", "https://a.example/1.mp4", "--model", "hog_color")["id"]
    workers.extract(job_id)
    workers.embed(job_id)
    workers.cluster(job_id, n_clusters=1, noise=2)
    [clustering] = answered("clusters", job_id)["clusterings"]
    assert [cluster["label"] for cluster in clustering["clusters"]] == [0, -1]
    *_, last, note = reelmap("clusters", job_id).stdout.splitlines()
    short = clustering["clusters"][-1]["id"][:8]
    assert last.split()[:4] == [short, "noise", "2", "1"] and note == "a note"
    assert len(answered("frames", short)["key_frames"]) == 2


def test_clusterings_are_listed_named_and_deleted_after_a_question(answered, reelmap, server: str, finished) -> None:
    [clustering] = answered("clusterings", "list", finished)["clusterings"]
    assert "hog_color, kmeans, 2 clusters" in reelmap("clusterings", "list", finished).stdout
    assert answered("clusterings", "name", clustering["id"], "by look")["name"] == "by look"
    assert "by look: hog_color, kmeans" in reelmap("clusterings", "list", finished).stdout
    arguments = ["clusterings", "delete", clustering["id"], "--server", server]
    asked = CliRunner().invoke(commands, arguments, input="n\n")
    assert asked.exit_code == 1
    assert "by look" in asked.stderr
    assert answered("clusterings", "delete", clustering["id"], "--yes") == {"deleted": clustering["id"]}
    assert answered("clusterings", "list", finished) == {"clusterings": []}


def test_key_frames_of_a_job_a_video_or_a_cluster_are_listed(answered, reelmap, finished: str) -> None:
    of_job = answered("frames", finished)["key_frames"]
    assert [frame["time_s"] for frame in of_job] == [0.0, 1.0, 2.0] * 2
    assert answered("frames", of_job[0]["video_id"])["key_frames"] == of_job[:3]
    cluster = answered("clusters", finished)["clusterings"][0]["clusters"][0]
    assert answered("frames", cluster["id"], "--limit", "2")["key_frames"] == cluster["nearest"][:2]
    shown = reelmap("frames", finished).stdout
    assert "1.mp4 at 0:00.0" in shown and "distance" not in shown
    assert "distance" in reelmap("frames", cluster["id"][:8]).stdout
    result = reelmap("frames", NOWHERE)
    assert result.exit_code == 1
    assert "no job, no video and no cluster" in result.stderr


def test_clusters_of_nothing_says_so(reelmap) -> None:
    result = reelmap("clusters", NOWHERE)
    assert result.exit_code == 1
    assert "no job and no clustering" in result.stderr


def test_what_is_no_id_and_no_server_is_said(reelmap) -> None:
    assert "first 8 characters" in reelmap("status", "d4").stderr
    result = CliRunner().invoke(commands, ["jobs", "--server", "nonsense"])
    assert (result.exit_code, "nonsense is not the address of a server" in result.stderr) == (1, True)


def test_search_finds_what_is_like_a_key_frame(answered, reelmap, finished: str) -> None:
    medoid = answered("clusters", finished)["clusterings"][0]["clusters"][0]["medoid"]
    short = answered("search", finished[:8], "--key-frame", medoid["id"][:8])
    assert short == answered("search", finished, "--key-frame", medoid["id"])
    results = answered("search", finished, "--key-frame", medoid["id"], "--limit", "3")["results"]
    assert len(results) == 3
    assert results == sorted(results, key=lambda result: result["distance"])
    assert reelmap("search", finished, "--key-frame", medoid["id"]).exit_code == 0
    assert reelmap("search", finished).exit_code == 2


def test_search_sends_a_picture_and_waits_for_its_embedding(
    reelmap, finished: str, tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.client.SEARCH_TIMEOUT_S", 0.0)
    (tmp_path / "query.jpg").write_bytes(jpeg)
    result = reelmap("search", finished, "--picture", tmp_path / "query.jpg")
    # No worker embeds queries here, so the API's 202 is all there is.
    assert result.exit_code == 1
    assert "was not embedded within" in result.stderr


def test_models_are_listed_with_what_is_wrong_with_them(answered, reelmap) -> None:
    by_name = {model["name"]: model for model in answered("models")["models"]}
    assert by_name["hog_color"]["available"]
    assert "REELMAP_WEIGHTS_DIR" in by_name["efficientnet_b0"]["problem"]
    shown = reelmap("models").stdout
    assert "REELMAP_WEIGHTS_DIR" in shown and "dimension" in shown.splitlines()[0]


def test_a_job_is_deleted_after_a_question(answered, reelmap, server: str, finished: str) -> None:
    asked = CliRunner().invoke(commands, ["delete", finished, "--server", server], input="n\n")
    assert asked.exit_code == 1
    assert answered("status", finished)["id"] == finished
    assert answered("delete", finished, "--yes") == {"deleted": finished}
    assert reelmap("status", finished).exit_code == 1


def test_the_key_comes_from_the_environment_and_what_to_do_without_one_is_said(
    closed_app: APIFlask, make_key, monkeypatch: pytest.MonkeyPatch
) -> None:
    def jobs() -> Result:
        return CliRunner().invoke(commands, ["jobs", "--server", address], catch_exceptions=False)

    with serving(closed_app) as address:
        refused = jobs()
        assert refused.exit_code == 1
        assert "Set REELMAP_KEY" in refused.stderr
        monkeypatch.setenv("REELMAP_KEY", make_key("reader"))
        assert jobs().exit_code == 0
        denied = CliRunner().invoke(commands, ["submit", "https://a.example/1.mp4", "--server", address])
        assert denied.exit_code == 1
        assert "needs the role writer" in denied.stderr
