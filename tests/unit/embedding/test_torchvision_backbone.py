"""torchvision's networks give what their classifier gets, and only with all of their weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from services.embedding.torchvision_backbone import Preprocessing, architecture_of, load_backbone
from shared.errors import ErrorKind, PermanentError

PREPROCESSING = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def save(tmp_path):
    """Saves a state dict, or a seeded random network of an architecture, and says where."""

    def saved(what):
        if isinstance(what, str):
            torch.manual_seed(0)
            what = torchvision.models.get_model(what, weights=None).state_dict()
        torch.save(what, tmp_path / "net.pth")
        return tmp_path / "net.pth"

    return saved


@pytest.mark.parametrize(
    ("architecture", "dimension"),
    [("resnet18", 512), ("mobilenet_v3_small", 576), ("shufflenet_v2_x0_5", 1024), ("regnet_y_400mf", 440)],
)
def test_the_embedding_is_what_the_classifier_gets(architecture, dimension, save, picture):
    path = save(architecture)
    embedder = load_backbone("net", architecture, path, PREPROCESSING, device="cpu", dimension=dimension)

    network = torchvision.models.get_model(architecture, weights=None).eval()
    network.load_state_dict(torch.load(path))
    head = getattr(network, "fc", None) or network.classifier
    inputs = []
    head.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))
    with torch.inference_mode():
        network(PREPROCESSING(picture)[None])
    assert np.abs(embedder.embed_batch([picture]) - inputs[0].numpy()).max() <= 1e-4


def test_a_network_that_does_not_pool_before_its_classifier_is_refused(save):
    path = save("squeezenet1_1")
    # SqueezeNet pools inside its classifier, so that its features stay a flattened grid: 512 x 13 x 13.
    big = Preprocessing(224, 224, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with pytest.raises(PermanentError, match="at most 16000"):
        load_backbone("net", "squeezenet1_1", path, big, device="cpu")


def test_the_classifier_may_have_any_number_of_classes_or_be_absent(save, picture):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=7)
    whole = load_backbone("net", "resnet18", save(network.state_dict()), PREPROCESSING, device="cpu")
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    headless = load_backbone("net", "resnet18", save(state), PREPROCESSING, device="cpu")
    assert headless.fingerprint == whole.fingerprint
    assert np.array_equal(headless.embed_batch([picture]), whole.embed_batch([picture]))


def test_a_weight_that_is_absent_or_of_another_shape_is_refused(save):
    state = torchvision.models.resnet18(weights=None).state_dict()
    for wrong in (
        {name: value for name, value in state.items() if name != "layer4.1.bn2.running_var"},
        {**state, "conv1.weight": torch.zeros(1)},
        {**state, "extra.weight": torch.zeros(1)},
        [1, 2],
    ):
        with pytest.raises(PermanentError, match="cannot be used") as caught:
            load_backbone("net", "resnet18", save(wrong), PREPROCESSING, device="cpu")
        assert caught.value.kind is ErrorKind.WEIGHTS_MISSING


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    for content in (b"", b"hello", b"\x80\x04cos\nsystem\n(S'true'\ntR."):  # the last runs a command when unpickled
        path.write_bytes(content)
        with pytest.raises(PermanentError, match="cannot be used"):
            load_backbone("net", "resnet18", path, PREPROCESSING, device="cpu")


def test_other_preprocessing_is_another_fingerprint(save):
    path = save("resnet18")
    other = Preprocessing(40, 32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    fingerprints = {load_backbone("n", "resnet18", path, p, device="cpu").fingerprint for p in (PREPROCESSING, other)}
    assert len(fingerprints) == 2


@pytest.mark.parametrize("name", ["EfficientNet_B0_Weights.IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V2"])
def test_preprocessing_is_what_torchvision_says_of_its_weights(name, picture):
    weights = torchvision.models.get_weight(name)
    assert torch.equal(Preprocessing.of(weights)(picture), weights.transforms()(Image.fromarray(picture)))


def test_weights_know_their_architecture():
    assert architecture_of(torchvision.models.ResNet50_Weights.IMAGENET1K_V2) == "resnet50"
    assert architecture_of(torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1) == "mobilenet_v2"


def test_preprocessing_of_a_setting_takes_one_number_for_all_channels():
    given = {"resize_px": 256, "interpolation": "bicubic", "crop_px": 224, "mean": 0.5, "std": [0.1, 0.2, 0.3]}
    preprocessing = Preprocessing.from_setting(given)
    assert preprocessing == Preprocessing(256, 224, "bicubic", (0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    for wrong in (
        {**given, "interpolation": "magic"},
        {**given, "mean": [1, 2]},
        {"resize_px": 256},
        {**given, "x": 1},
    ):
        with pytest.raises((ValueError, TypeError)):
            Preprocessing.from_setting(wrong)
