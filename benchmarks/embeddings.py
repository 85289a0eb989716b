"""Embeddings against the libraries called by hand, and what they are worth: `python -m benchmarks.embeddings`.

The networks of full size are seeded random ones, saved to a temporary folder and loaded as a person's would be: they
show that the arithmetic is the same, not that it is good. Quality needs the labelled photos and the two really trained
small networks of `--data`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.embedding.embedder import Embedder, Rgb, Vectors, embed_all
from services.embedding.loading import load_embedder
from services.embedding.pictures import read_picture
from shared.catalog import Model, OwnModel, models
from shared.weights import Weights

SEEDS = range(5)
TENSORFLOW_STYLE = {"resize_px": 256, "interpolation": "bilinear", "crop_px": 224, "mean": 0.5, "std": 0.5}
OWN = {
    "vit_tiny (class token)": OwnModel("transformers", "vit_tiny", pooling="class_token"),
    "vit_tiny_mae_layout (class token)": OwnModel("transformers", "vit_tiny_mae_layout", pooling="class_token"),
    "vit_tiny_mae_layout (mean)": OwnModel("transformers", "vit_tiny_mae_layout", pooling="mean"),
    "mobilenet_v2": OwnModel("torchvision", "mobilenet_v2.pth", "mobilenet_v2", preprocessing=TENSORFLOW_STYLE),
}

ByHand = Callable[[Rgb], Any]


@dataclass(frozen=True)
class Photos:
    """Labelled photos: `labels[i]` is the class of `pictures[i]`."""

    pictures: list[Rgb]
    labels: list[str]


def read_photos(folder: Path) -> Photos:
    paths = sorted(folder.glob("*/*.jpg"))
    return Photos([read_picture(path.read_bytes()) for path in paths], [path.parent.name for path in paths])


def save_random_networks(folder: Path) -> None:
    """The networks that come with Reelmap, full size, seeded random, under the names that it looks for."""
    import torch
    import torchvision
    import transformers

    torch.manual_seed(0)
    efficientnet = torchvision.models.efficientnet_b0(weights=None)
    # An untrained EfficientNet's features vanish (1e-20) unless its normalisations have seen something.
    for layer in efficientnet.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    efficientnet.train()(torch.nn.functional.interpolate(torch.randn(8, 3, 7, 7), 224, mode="bicubic"))
    torch.save(efficientnet.state_dict(), folder / "efficientnet_b0.pth")
    square = {"height": 224, "width": 224}
    cropped: dict[str, Any] = {"size": {"shortest_edge": 224}, "crop_size": square}
    clip = transformers.CLIPVisionConfig(patch_size=32, projection_dim=512)
    dinov2 = transformers.Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)
    saved = {
        "vit_mae_base": (
            transformers.ViTMAEModel(transformers.ViTMAEConfig()),
            transformers.ViTImageProcessor(size=square),
        ),
        "dinov2_small": (
            transformers.Dinov2Model(dinov2),
            transformers.BitImageProcessor(**{**cropped, "size": {"shortest_edge": 256}}),
        ),
        "clip_vit_b32": (transformers.CLIPVisionModelWithProjection(clip), transformers.CLIPImageProcessor(**cropped)),
    }
    for name, (network, processor) in saved.items():
        network.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)


def by_hand_torchvision(network: Any, transforms: Any) -> ByHand:
    from PIL import Image

    network.eval()
    return lambda rgb: network.features(transforms(Image.fromarray(rgb))[None]).mean((2, 3))


def by_hand_transformers(folder: Path, class_name: str, vector: Callable[[Any, Any], Any], **settings: Any) -> ByHand:
    import transformers
    from PIL import Image

    network = getattr(transformers, class_name).from_pretrained(folder, **settings).eval()
    processors: Any = transformers.AutoImageProcessor
    processor = processors.from_pretrained(folder)
    return lambda rgb: vector(network, processor(images=Image.fromarray(rgb), return_tensors="pt")["pixel_values"])


def references(random: Path, data: Path | None) -> Iterator[tuple[Model, Path, ByHand]]:
    """A model, its weights folder, and the same embedding by the library called by hand."""
    import torch
    import torchvision
    from torchvision.models import EfficientNet_B0_Weights

    def whole(network: Any, pixels: Any) -> Any:
        patches = network.embeddings.patch_embeddings.num_patches
        return network(pixels, noise=torch.arange(float(patches))[None]).last_hidden_state

    known = models({})
    efficientnet = torchvision.models.efficientnet_b0()
    efficientnet.load_state_dict(torch.load(random / "efficientnet_b0.pth"))
    transforms = EfficientNet_B0_Weights.IMAGENET1K_V1.transforms()
    yield known["efficientnet_b0"], random, by_hand_torchvision(efficientnet, transforms)
    for name, class_name, vector, settings in (
        ("vit_mae_base", "ViTMAEModel", lambda n, p: whole(n, p).mean(1), {"mask_ratio": 0.0}),
        ("dinov2_small", "Dinov2Model", lambda n, p: n(p).last_hidden_state[:, 0], {}),
        ("clip_vit_b32", "CLIPVisionModelWithProjection", lambda n, p: n(p).image_embeds, {}),
    ):
        yield known[name], random, by_hand_transformers(random / name, class_name, vector, **settings)
    if data is None:
        return
    weights = data / "weights"
    for own, class_name, vector, settings in (
        ("vit_tiny (class token)", "ViTModel", lambda n, p: n(p).last_hidden_state[:, 0], {}),
        ("vit_tiny_mae_layout (mean)", "ViTMAEModel", lambda n, p: whole(n, p).mean(1), {"mask_ratio": 0.0}),
    ):
        folder = weights / OWN[own].weights
        yield own_model(own), weights, by_hand_transformers(folder, class_name, vector, **settings)
    mobilenet = torchvision.models.mobilenet_v2()
    mobilenet.load_state_dict(torch.load(weights / "mobilenet_v2.pth"))
    half = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms(mean=[0.5] * 3, std=[0.5] * 3)
    yield own_model("mobilenet_v2"), weights, by_hand_torchvision(mobilenet, _resized_to_256(half))


def _resized_to_256(transforms: Any) -> Any:
    transforms.resize_size = [256]
    return transforms


def own_model(name: str) -> Model:
    return Model(name, "", None, Weights((OWN[name].weights,)), OWN[name])


def same_as_by_hand(random: Path, data: Path | None, pictures: Sequence[Rgb], device: str) -> Iterator[tuple[str, ...]]:
    import torch

    yield ("model", "d", "largest number", "largest difference", "alone = in a batch", "twice the same")
    for model, folder, by_hand in references(random, data):
        embedder = load_embedder(model, folder, hub=False, device=device)
        with torch.inference_mode():
            expected = torch.cat([by_hand(picture) for picture in pictures]).numpy()
        X = embedder.embed_batch(pictures)
        difference = max(
            float(np.abs(_in_batches(embedder, pictures, size) - expected).max()) for size in (1, 2, 7, len(pictures))
        )
        alone = np.array_equal(_in_batches(embedder, pictures, 1), X)
        twice = np.array_equal(embedder.embed_batch(pictures), X)
        yield (
            model.name,
            str(embedder.dimension),
            f"{np.abs(X).max():.2f}",
            f"{difference:.1e}",
            _yes(alone),
            _yes(twice),
        )


def _in_batches(embedder: Embedder, pictures: Sequence[Rgb], size: int) -> Vectors:
    batches = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    return np.concatenate([embedder.embed_batch(batch) for batch in batches])


def _yes(true: bool) -> str:
    return "yes" if true else "NO"


def speed(random: Path, data: Path | None, pictures: Sequence[Rgb], device: str) -> Iterator[tuple[str, ...]]:
    import torch

    yield ("model", "pictures/s", "load s", "threads")
    timed = [(model, random) for model in models({}).values()]
    timed += [(own_model(name), data / "weights") for name in OWN] if data else []
    for model, folder in timed:
        started = time.perf_counter()
        embedder = load_embedder(model, folder, hub=False, device=device)
        loaded = time.perf_counter()
        embed_all(embedder, pictures)
        rate = len(pictures) / (time.perf_counter() - loaded)
        yield (model.name, f"{rate:.1f}", f"{loaded - started:.1f}", str(torch.get_num_threads()))


def quality(data: Path, photos: Photos, device: str) -> Iterator[tuple[str, ...]]:
    """k-means with as many clusters as there are classes, median of the seeds."""
    baseline = models({})["hog_color"]
    yield ("model", "vectors", "NMI", "ARI", "purity")
    for model in (baseline, *(own_model(name) for name in OWN)):
        X = embed_all(load_embedder(model, data / "weights", hub=False, device=device), photos.pictures)
        yield from _clustered(model.name, X, photos.labels)


def same_photograph(photos: Photos, device: str) -> Iterator[tuple[str, ...]]:
    """40 photos, eight times each under another crop (75 to 100 %), contrast (0.6 to 1.35) and brightness."""
    yield ("model", "vectors", "NMI", "ARI", "purity")
    rng = np.random.default_rng(0)
    step = max(1, len(photos.pictures) // 40)
    variants, labels = [], []
    for index in range(0, step * 40, step):
        for _ in range(8):
            variants.append(_another_look(photos.pictures[index], rng))
            labels.append(str(index))
    embedder = load_embedder(models({})["hog_color"], None, hub=False, device=device)
    yield from _clustered("hog_color", embed_all(embedder, variants), labels)


def _another_look(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    height, width = (int(side * rng.uniform(0.75, 1)) for side in rgb.shape[:2])
    top, left = rng.integers(rgb.shape[0] - height + 1), rng.integers(rgb.shape[1] - width + 1)
    crop = rgb[top : top + height, left : left + width] * rng.uniform(0.6, 1.35) + rng.uniform(-15, 15)
    return crop.clip(0, 255).astype(np.uint8)


def _clustered(name: str, X: Vectors, labels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import StandardScaler

    from services.clustering.quality import agreement

    _, truth = np.unique(labels, return_inverse=True)
    k = int(truth.max()) + 1
    for how, vectors in (("as they are", X), ("standardised", StandardScaler().fit_transform(X))):
        runs = [agreement(KMeans(k, n_init=10, random_state=seed).fit_predict(vectors), truth) for seed in SEEDS]
        medians = [float(np.median([getattr(run, measure) for run in runs])) for measure in ("nmi", "ari", "purity")]
        yield (name, how, *(f"{median:.2f}" for median in medians))


def print_table(title: str, rows: Iterator[tuple[str, ...]]) -> None:
    print(f"\n{title}", flush=True)
    for row in rows:
        print("  ".join(f"{cell:<34}" if index == 0 else f"{cell:>18}" for index, cell in enumerate(row)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("REELMAP_DATA_DIR"), help="real photos and weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="arithmetic threads; 0: as many as cores")
    arguments = parser.parse_args()
    # Before torch is loaded: threads that spin while they wait make each other slow on cores that others use.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    import transformers

    log: Any = transformers.utils.logging
    log.set_verbosity_error()
    log.disable_progress_bar()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.data:
        photos = read_photos(arguments.data / "images")
    else:
        noise = np.random.default_rng(0).integers(0, 256, (32, 360, 640, 3), np.uint8)
        photos = Photos(list(noise), [])
    # Pictures of many sizes, from all over the set.
    some = photos.pictures[:: max(1, len(photos.pictures) // 32)][:32]
    with tempfile.TemporaryDirectory() as folder:
        save_random_networks(Path(folder))
        rows = same_as_by_hand(Path(folder), arguments.data, some[:16], arguments.device)
        print_table("against the library called by hand, batches of 1, 2, 7, 16", rows)
        print_table("speed", speed(Path(folder), arguments.data, some, arguments.device))
    if arguments.data:
        print_table("k-means against the classes of the photos", quality(arguments.data, photos, arguments.device))
        print_table("k-means against the photograph, other crop and light", same_photograph(photos, arguments.device))


if __name__ == "__main__":
    main()
