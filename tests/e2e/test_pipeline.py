"""From a list of URLs to clusters, through the real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def submit(reelmap, videos, *, models=("hog_color",), n_clusters=6, **more) -> str:
    return reelmap.post(
        "/jobs", {"videos": videos, "models": list(models), "clustering": {"n_clusters": n_clusters}, **more}
    )["id"]


def test_a_list_of_urls_becomes_clusters_that_can_be_looked_at(reelmap, site, clips):
    names = ["first.mp4", "second.mp4", "third.mp4", "twin.mp4", "notes.mp4", "empty.mp4", "half.mp4", "missing.mp4"]
    job = reelmap.wait(submit(reelmap, [f"{site}/{name}" for name in names]))
    assert job["state"] == "partly_failed"
    assert job["videos"] == 3, "the twin is the same video"
    # 3 + 3 + 4 shots of 30 frames; at least one key frame a shot, and the twin adds none
    assert job["frames"] == 300
    assert 10 <= job["key_frames_count"] <= 14

    sources = {Path(s["url"]).name: s for s in reelmap.get(f"/jobs/{job['id']}/sources")["sources"]}
    kinds = {name: (s["error"] or {}).get("kind") for name, s in sources.items()}
    assert {name for name, kind in kinds.items() if kind is None} == {
        "first.mp4",
        "second.mp4",
        "third.mp4",
        "twin.mp4",
    }
    assert kinds["notes.mp4"] == "not_a_video"
    assert kinds["empty.mp4"] == "empty"
    assert kinds["half.mp4"] in {"not_a_video", "damaged"}
    assert kinds["missing.mp4"] == "not_found"
    assert all(s["attempts"] == 1 for s in sources.values()), "none of these is worth a second try"

    [clustering] = reelmap.get(f"/jobs/{job['id']}/clusterings")["clusterings"]
    assert (clustering["state"], clustering["n_clusters_used"], clustering["complete"]) == ("succeeded", 6, True)
    assert clustering["key_frames"] == job["key_frames_count"]
    clusters = reelmap.get(f"/clusterings/{clustering['id']}/clusters")["clusters"]
    # Each of the six textures is a cluster of its own: its key frames come from the shots that show it.
    shown = [
        {texture_of(key_frame) for key_frame in reelmap.get(f"/clusters/{cluster['id']}/key-frames")["key_frames"]}
        for cluster in clusters
    ]
    assert all(len(textures) == 1 for textures in shown), shown
    assert set.union(*shown) == set(range(6))

    key_frame = reelmap.get(f"/clusters/{clusters[0]['id']}/key-frames")["key_frames"][0]
    picture = reelmap.call("GET", f"/key-frames/{key_frame['id']}/image")
    assert picture.headers["Content-Type"] == "image/jpeg" and picture.content.startswith(b"\xff\xd8")

    found = reelmap.post("/search", {"key_frame_id": key_frame["id"], "jobs": [job["id"]], "limit": 3})["results"]
    assert key_frame["id"] not in {result["id"] for result in found}
    assert texture_of(found[0]) == texture_of(key_frame)
    by_picture = reelmap.call(
        "POST", "/search", files={"picture": picture.content}, data={"jobs": job["id"], "model": "hog_color"}
    )
    assert by_picture.status_code == 200, by_picture.text
    assert by_picture.json()["results"][0]["id"] == key_frame["id"]
    assert by_picture.json()["results"][0]["distance"] < 0.02


def texture_of(key_frame) -> int:
    """Which texture the clips show at the key frame's second."""
    shots = {"first.mp4": [0, 1, 2], "twin.mp4": [0, 1, 2], "second.mp4": [2, 3, 4], "third.mp4": [5, 0, 3, 1]}
    return shots[Path(key_frame["sources"][0]["url"]).name][int(key_frame["time_s"] / 1.2)]


def test_more_sources_models_and_other_clusterings_on_the_same_job(reelmap, site, clips):
    job_id = submit(reelmap, [f"{site}/first.mp4"], n_clusters=2)
    assert reelmap.wait(job_id)["state"] == "succeeded"
    reelmap.post(f"/jobs/{job_id}/sources", {"videos": [f"{site}/second.mp4"]})
    job = reelmap.wait(job_id)
    assert (job["state"], job["round"], job["videos"]) == ("succeeded", 2, 2)
    asked = reelmap.post(f"/jobs/{job_id}/clusterings", {"algorithm": "hierarchical", "n_clusters": 3, "scaling": "l2"})

    def ended() -> bool:
        return reelmap.get(f"/clusterings/{asked['id']}")["state"] in ("succeeded", "failed")

    _wait(ended)
    assert reelmap.get(f"/clusterings/{asked['id']}")["n_clusters_used"] == 3
    versions = reelmap.get(f"/jobs/{job_id}/clusterings")["clusterings"]
    assert [(v["round"], v["asked"]) for v in versions] == [(2, True), (2, False), (1, False)]


def test_an_upload_is_a_source(reelmap, clips):
    with (clips / "first.mp4").open("rb") as file:
        upload = reelmap.call("POST", "/uploads", params={"file_name": "first.mp4"}, data=file).json()
    job = reelmap.wait(submit(reelmap, [upload["url"]], n_clusters=2))
    assert job["state"] == "succeeded"
    assert reelmap.call("DELETE", f"/jobs/{job['id']}").status_code == 204
    assert reelmap.call("GET", f"/jobs/{job['id']}").status_code == 404


def test_work_goes_on_after_kill_9_of_everything(reelmap, site):
    job_id = submit(reelmap, [f"{site}/{name}.mp4" for name in ("first", "second", "third")])
    _wait(lambda: reelmap.get(f"/jobs/{job_id}")["state"] != "queued")
    for pid in reelmap.processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    reelmap.process.wait(10)
    _wait(lambda: not reelmap.processes())
    reelmap.start()
    job = reelmap.wait(job_id)
    assert job["state"] == "succeeded"
    assert job["frames"] == 300


def test_a_killed_worker_costs_its_task_one_attempt(reelmap, site):
    job_id = submit(reelmap, [f"{site}/{name}.mp4" for name in ("first", "second", "third")])
    # Not "running": the videos may be known already, and then a task is over before anybody looks.
    _wait(lambda: reelmap.get(f"/jobs/{job_id}")["state"] != "queued")
    for pid in reelmap.processes():
        cmdline = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"services.keyframes.worker" in cmdline:
            os.kill(pid, signal.SIGKILL)
    assert reelmap.wait(job_id)["state"] == "succeeded"
    attempts = [s["attempts"] for s in reelmap.get(f"/jobs/{job_id}/sources")["sources"]]
    assert max(attempts) <= 2


def test_a_worker_that_is_asked_to_stop_hands_its_task_back_at_once(reelmap, site):
    job_id = submit(reelmap, [f"{site}/first.mp4?slow_s=4"], n_clusters=2)
    _wait(lambda: reelmap.get(f"/jobs/{job_id}")["progress"]["keyframes"]["running"] == 1)
    worker = min(
        pid for pid in reelmap.processes() if b"services.keyframes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(worker, signal.SIGTERM)
    asked_at = time.monotonic()
    _wait(lambda: reelmap.get(f"/jobs/{job_id}")["progress"]["keyframes"]["running"] == 0)
    # Long before the lease of 6 s is over; the grace is 1 s.
    assert time.monotonic() - asked_at < 5
    assert reelmap.wait(job_id)["state"] == "succeeded"
    [source] = reelmap.get(f"/jobs/{job_id}/sources")["sources"]
    assert source["attempts"] == 2


def test_ctrl_c_ends_everything_and_the_jobs_are_there_at_the_next_start(reelmap, site):
    job_id = submit(reelmap, [f"{site}/first.mp4"], n_clusters=2)
    assert reelmap.wait(job_id)["state"] == "succeeded"
    assert reelmap.stop() == 0
    _wait(lambda: not reelmap.processes())
    reelmap.start()
    assert reelmap.get(f"/jobs/{job_id}")["state"] == "succeeded"


@pytest.mark.data
def test_real_clips_through_two_really_trained_networks(data_dir, reelmap, networks):
    names = ["bikes.mp4", "nasa.mp4", "phone_rotated_180.mp4", "sea.webm", "sea.mkv", "film_vfr.mp4"]
    uploads = []
    for name in names:
        with (data_dir / "videos" / name).open("rb") as file:
            uploads.append(reelmap.call("POST", "/uploads", params={"file_name": name}, data=file).json()["url"])
    job = reelmap.wait(submit(reelmap, uploads, models=networks, n_clusters=8), for_s=240)
    assert job["state"] == "succeeded", job
    dimensions = {m["name"]: m["dimension"] for m in reelmap.get("/models")["models"]}
    assert (dimensions["vit_tiny"], dimensions["mobilenet_v2"]) == (192, 1280)
    clusterings = reelmap.get(f"/jobs/{job['id']}/clusterings")["clusterings"]
    assert {c["model"]: c["n_clusters_used"] for c in clusterings} == {"vit_tiny": 8, "mobilenet_v2": 8}


def _wait(condition, *, for_s: float = 60) -> None:
    until = time.monotonic() + for_s
    while not condition():
        assert time.monotonic() < until, f"waited {for_s:g} s in vain"
        time.sleep(0.1)
