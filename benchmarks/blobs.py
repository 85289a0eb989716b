"""How long the pictures of a video take into a blob store and out of it, one by one and as the stages do it.

The bucket is behind a link that adds half of `--round-trip-ms` each way. `python -m benchmarks.blobs`
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from services.local.guard import Guard
from shared.blob_stores import open_blobs
from shared.blobs import BlobStore
from shared.settings import Settings
from tests.faults.network import Network
from tests.object_store import ObjectStore

PICTURE_BYTES = 60_000
RUNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--round-trip-ms", type=float, default=30)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, stores(Path(folder), asked.round_trip_ms / 1000) as by_name:
        source = Path(folder, "picture")
        source.write_bytes(os.urandom(PICTURE_BYTES))
        print(f"{asked.pictures} pictures of {PICTURE_BYTES // 1000} kB, median of {RUNS}, in seconds\n")
        print("| store | written one by one | written by `put_all` | read one by one | read by `read_all` |")
        print("|---|---|---|---|---|")
        for name, blobs in by_name.items():
            cells = " | ".join(f"{seconds:.3f}" for seconds in measure(blobs, source, asked.pictures))
            print(f"| {name} | {cells} |")


@contextmanager
def stores(folder: Path, round_trip_s: float) -> Iterator[dict[str, BlobStore]]:
    """A folder, a bucket beside us, and the same far away."""
    with Guard() as guard, Network() as network:
        object_store = ObjectStore(guard, folder / "s3.log")
        object_store.start()
        try:
            near = Settings(**object_store.new_bucket())
            link = network.link(lambda: object_store.port)
            network.switch(link, "pass", round_trip_s / 2)
            far = replace(near, s3_endpoint=f"http://127.0.0.1:{link.listens_at}")
            yield {
                "folder": open_blobs(Settings(blobs_folder=folder / "blobs")),
                "bucket": open_blobs(near),
                f"bucket, {round_trip_s * 1000:.0f} ms away": open_blobs(far),
            }
        finally:
            object_store.stop()


def measure(blobs: BlobStore, source: Path, count: int) -> Iterator[float]:
    """Seconds of each way of writing and reading."""

    def names() -> list[str]:
        extraction = uuid.uuid4()
        return [f"pictures/{extraction}/{i:07d}.jpg" for i in range(count)]

    def put_one_by_one() -> None:
        for name in names():
            blobs.put(name, source)

    there = names()
    blobs.put_all(dict.fromkeys(there, source))
    yield median_of(put_one_by_one)
    yield median_of(lambda: blobs.put_all(dict.fromkeys(names(), source)))
    yield median_of(lambda: deque(map(blobs.read, there), maxlen=0))
    yield median_of(lambda: deque(blobs.read_all(there), maxlen=0))


def median_of(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(RUNS):
        began_at = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began_at)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
