"""Measures the memory that each service takes, idle and at work: `python -m benchmarks.footprint --data DIR`.

Starts a whole Reelmap, waits until it is quiet, takes the real clips through two really trained networks and a
full-size vision transformer with random weights, clusters, searches by picture, and prints for each service the sum of
its processes' proportional resident memory (`Pss`: what forked processes share counts once). What Kubernetes counts is
about that, and the page cache that it takes back first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.service import CLIP_SUFFIXES, OWN_MODELS, finished, running_reelmap
from services.local.up import PROCESSES

LOOK_EVERY_S = 0.1
QUIET_S = 6

#: What a process's command line holds, by service.
SERVICES = {name: " ".join(arguments) for name, arguments in PROCESSES.items()}


class Footprint:
    """The memory of every service below one process, looked at all the time: lately, and the most so far."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.now_mb: dict[str, float] = {}
        self.most_mb: dict[str, float] = {}
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            now = dict.fromkeys(SERVICES, 0.0)
            for service, pid in _of_services(self._root):
                now[service] += _pss_mb(pid)
            self.now_mb = now
            self.most_mb = {service: max(mb, self.most_mb.get(service, 0)) for service, mb in now.items()}
            time.sleep(LOOK_EVERY_S)


def _of_services(root: int) -> Iterator[tuple[str, int]]:
    """Every process below `root` with the service that it belongs to: its own command line's, or its parent's."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended
            children.setdefault(parent, []).append(int(entry.name))
    waiting = [(root, "")]
    while waiting:
        pid, service = waiting.pop()
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        service = next((name for name, sign in SERVICES.items() if sign in words), service)
        if service:
            yield service, pid
        waiting += [(child, service) for child in children.get(pid, ())]


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that REELMAP_DATA_DIR names")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder)
        for path in (data / "weights").iterdir():
            weights.joinpath(path.name).symlink_to(path)
        _random_vit(weights / "large")
        OWN_MODELS["large"] = {"library": "transformers", "weights": "large", "pooling": "mean"}
        with running_reelmap(weights) as client:
            footprint = Footprint(os.getpid())
            time.sleep(QUIET_S)
            idle = dict(footprint.now_mb)
            clips = [path for path in sorted((data / "videos").iterdir()) if path.suffix in CLIP_SUFFIXES]
            urls = [client.upload(path)["url"] for path in clips]
            job = client.submit(urls, models=list(OWN_MODELS), clustering={"n_clusters": 30})
            job = finished(client, job["id"])
            print(f"{len(urls)} clips, {job['key_frames_count']} key frames, three models: {job['state']}")
            picture = next((data / "images").glob("*/*.jpg"))
            for model in OWN_MODELS:
                client.search([job["id"]], model=model, picture=picture)
            time.sleep(QUIET_S)
            after = dict(footprint.now_mb)
    print("| service | idle, MB | most at work, MB | idle again, MB |\n|---|---|---|---|")
    for service in SERVICES:
        print(f"| {service} | {idle[service]:.0f} | {footprint.most_mb[service]:.0f} | {after[service]:.0f} |")


def _random_vit(folder: Path) -> None:
    """A vision transformer of the base size, 86 million random numbers."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    ViTModel(ViTConfig(), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)


if __name__ == "__main__":
    main()
