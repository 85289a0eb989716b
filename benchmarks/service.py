"""Measures the whole service on real data: `python -m benchmarks.service --data DIR {photos,clips}`.

photos: the labelled photographs, each made into a one-shot video, through every process with ViT-Tiny's class token;
        the purity of k-means with as many clusters as classes, for five seeds.
clips:  all clips through two really trained networks, k = 30; seconds, and the outcome of every clip.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from services.client import Client
from services.clustering.quality import agreement

CLIP_SUFFIXES = {".mp4", ".mkv", ".webm", ".avi", ".mpg", ".wmv", ".flv", ".h264"}
OWN_MODELS = {
    "vit_tiny": {"library": "transformers", "weights": "vit_tiny", "pooling": "class_token"},
    "mobilenet_v2": {
        "library": "torchvision",
        "architecture": "mobilenet_v2",
        "weights": "mobilenet_v2.pth",
        "pooling": "mean",
        "preprocessing": {
            "resize_px": 256,
            "interpolation": "bilinear",
            "crop_px": 224,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
    },
}


@contextmanager
def running_reelmap(weights: Path) -> Iterator[Client]:
    """A whole Reelmap of our own in a temporary folder, as `reelmap up` starts it."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "REELMAP_WEIGHTS_DIR": str(weights),
            "REELMAP_OWN_MODELS": json.dumps(OWN_MODELS),
            "REELMAP_HUB": "no",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "up", "--folder", folder, "--port", "0"],
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout
            for line in process.stdout:
                if found := re.search(r"Ready: (http://\S+)", line):
                    yield Client(found[1])
                    return
            raise SystemExit("Reelmap did not start")
        finally:
            process.terminate()
            process.wait(60)


def finished(client: Client, job_id: str) -> Mapping[str, Any]:
    """The job, once it is final."""
    *_, job = client.follow(job_id)
    return job


def photos(client: Client, data: Path, folder: Path) -> None:
    """Purity of the photographs' clusters."""
    names = {}
    for path in sorted((data / "images").glob("*/*.jpg")):
        video = folder / f"{path.parent.name}-{path.stem}.mp4"
        one_shot_video(path, video)
        names[client.upload(video)["url"]] = path.parent.name
    classes = sorted(set(names.values()))
    started = time.monotonic()
    job = client.submit(list(names), models=["vit_tiny"], clustering={"n_clusters": len(classes), "seed": 0})
    job = finished(client, job["id"])
    print(f"{len(names)} photographs as videos: {job['state']} in {time.monotonic() - started:.0f} s")
    print(f"key frames: {job['key_frames_count']}")
    purities = []
    for seed in range(5):
        asked = client.cluster_again(
            job["id"], {"model": "vit_tiny", "n_clusters": len(classes), "seed": seed, "scaling": "standard"}
        )
        *_, clustering = client.follow_clustering(asked["id"])
        truth, labels = [], []
        for cluster in client.clusters(clustering["id"]):
            for key_frame in client.cluster_key_frames(cluster["id"]):
                truth.append(classes.index(names[key_frame["sources"][0]["url"]]))
                labels.append(cluster["label"])
        purities.append(agreement(np.array(labels), truth).purity)
        print(f"seed {seed}: purity {purities[-1]:.3f} of {len(labels)} key frames")
    print(f"median purity {statistics.median(purities):.3f} (target 0.85)")


def one_shot_video(photo: Path, video: Path, *, frames: int = 12) -> None:
    """H.264 at high quality, the photograph unmoved at its own size (made even)."""
    import av

    with av.open(str(photo)) as picture:
        rgb = next(picture.decode(video=0)).to_ndarray(format="rgb24")
    rgb = np.ascontiguousarray(rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2])
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *rgb.shape[:2], "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


def clips(client: Client, data: Path, folder: Path) -> None:
    """Time and outcome of all real clips."""
    uploads = {}
    for path in sorted((data / "videos").iterdir()):
        if path.suffix in CLIP_SUFFIXES:
            uploads[client.upload(path)["url"]] = path.name
    started = time.monotonic()
    job = client.submit(list(uploads), models=list(OWN_MODELS), clustering={"n_clusters": 30})
    job = finished(client, job["id"])
    took_s = time.monotonic() - started
    for source in client.sources(job["id"]):
        video = source["video"] or {}
        error = (source["error"] or {}).get("message", "")
        print(
            f"{uploads[source['url']]:42} {source['state']:10} {video.get('frames') or 0:6} frames "
            f"{source['key_frames'] or 0:4} key frames  {error}"
        )
    outcomes = Counter(source["state"] for source in client.sources(job["id"]))
    print(f"{len(uploads)} clips, {job['frames']} frames, {job['key_frames_count']} key frames: {dict(outcomes)}")
    for clustering in client.clusterings(job["id"]):
        silhouette = clustering["silhouette"]
        print(f"{clustering['model']}: {clustering['n_clusters_used']} clusters, silhouette {silhouette:.3f}")
    print(f"job {job['state']} in {took_s:.1f} s on {os.cpu_count()} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that REELMAP_DATA_DIR names")
    parser.add_argument("what", choices=["photos", "clips"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_reelmap(arguments.data / "weights") as client:
        {"photos": photos, "clips": clips}[arguments.what](client, arguments.data, Path(folder))


if __name__ == "__main__":
    main()
