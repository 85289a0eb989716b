"""Which scaling suits which model: k-means on labelled photos and on shots of clips, `python -m benchmarks.scalings`.

DIR holds `images/CLASS/*.jpg`, `weights/` and `videos/` with `ground_truth.json`. Of each annotated shot three frames
are taken (at a quarter, half and three quarters of it): the same shot is the same class. Each figure is the mean over
seeds of k-means with as many clusters as there are classes, or with another number that `--k` times as many make.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.embeddings import Photos, own_model, read_photos
from services.clustering.algorithms import kmeans
from services.clustering.quality import Agreement, agreement
from services.clustering.scaling import SCALINGS, scale
from services.clustering.threads import one_blas_thread
from services.embedding.embedder import Vectors, embed_all
from services.embedding.loading import load_embedder
from shared.catalog import Model, models

PCA_DIMENSIONS = 64
#: Where in a shot its frames are taken.
PLACES = (0.25, 0.5, 0.75)

Scaling = Callable[[Vectors, int], Vectors]


def scalings() -> dict[str, Scaling]:
    """Those that Reelmap has, and two that it has not."""
    ours: dict[str, Scaling] = {
        name: lambda X, seed, name=name: scale(X, name, pca_dimensions=PCA_DIMENSIONS, seed=seed)  # type: ignore[misc]
        for name in SCALINGS
    }
    return {**ours, "l2, then standard": _l2_then_standard, "l2, then whitened": _l2_then_whitened}


def _l2_then_standard(X: Vectors, seed: int) -> Vectors:
    return scale(scale(X, "l2", pca_dimensions=1, seed=seed), "standard", pca_dimensions=1, seed=seed)


def _l2_then_whitened(X: Vectors, seed: int) -> Vectors:
    from sklearn.decomposition import PCA

    whitened = PCA(PCA_DIMENSIONS, whiten=True, random_state=seed).fit_transform(
        scale(X, "l2", pca_dimensions=1, seed=seed)
    )
    return np.ascontiguousarray(whitened, dtype=np.float32)


def read_shots(videos: Path) -> Photos:
    """Three frames of each annotated shot, labelled with the clip and the shot."""
    import av

    pictures, labels = [], []
    for name, entry in json.loads((videos / "ground_truth.json").read_text()).items():
        wanted = {
            first + round(place * (last - first)): f"{name} {first}"
            for first, last in entry["segments"]
            for place in PLACES
        }
        with av.open(str(videos / name)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    pictures.append(frame.to_ndarray(format="rgb24"))
                    labels.append(wanted[index])
    return Photos(pictures, labels)


def embedded(model: Model, weights_dir: Path, photos: Photos, cache: Path | None, what: str) -> Vectors:
    """The pictures' vectors, from the cache where an earlier run left them."""
    path = cache and cache / f"{model.name}-{what}.npy"
    if path and path.exists():
        found: Vectors = np.load(path)
        return found
    X = embed_all(load_embedder(model, weights_dir, hub=False, device="cpu"), photos.pictures)
    if path:
        np.save(path, X)
    return X


def compared(X: Vectors, labels: NDArray[np.int64], k: int, seeds: int) -> Iterator[tuple[str, list[Agreement]]]:
    for name, make in scalings().items():
        runs = []
        for seed in range(seeds):
            found = kmeans.fit(make(X, seed), kmeans.Parameters(k), seed=seed)
            runs.append(agreement(found.astype(np.int64), labels))
        yield name, runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("REELMAP_DATA_DIR"), help="the folder DIR")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--k", type=float, default=1.0, help="clusters for each class")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the vectors for the next run")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder with photos, clips and weights: --data, or REELMAP_DATA_DIR")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded
    known = models({})
    tried = [
        known["efficientnet_lite0"], own_model("mobilenet_v2"), own_model("vit_tiny (class token)"), known["hog_color"]
    ]  # fmt: skip
    sets = {"photos": read_photos(arguments.data / "images"), "shots": read_shots(arguments.data / "videos")}
    for what, photos in sets.items():
        _, labels = np.unique(photos.labels, return_inverse=True)
        k = round(arguments.k * (int(labels.max()) + 1))
        print(f"\n{what}: {len(labels)} pictures, {int(labels.max()) + 1} classes, k = {k}, {arguments.seeds} seeds")
        print(f"{'model':<24}{'scaling':<20}{'NMI':>8}{'ARI':>8}{'purity':>8}{'± NMI':>8}")
        for model in tried:
            X = embedded(model, arguments.data / "weights", photos, arguments.cache, what)
            with one_blas_thread():
                for name, runs in compared(X, labels, k, arguments.seeds):
                    nmi = [run.nmi for run in runs]
                    means = (np.mean(nmi), np.mean([r.ari for r in runs]), np.mean([r.purity for r in runs]))
                    cells = "".join(f"{mean:>8.3f}" for mean in (*means, np.std(nmi)))
                    print(f"{model.name:<24}{name:<20}{cells}", flush=True)


if __name__ == "__main__":
    main()
