"""The catalog finds every file by its name, completes settings and refuses what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import catalog
from shared.catalog import UnknownName
from shared.parameters import BadParameter
from shared.weights import HuggingFace, TorchvisionMember, Weights

OWN = {"tiny": {"library": "transformers", "weights": "vit_tiny", "pooling": "class_token"}}


def test_every_file_is_an_entry():
    root = Path(catalog.__file__).parents[1] / "services"

    def names(folder: str) -> set[str]:
        return {path.stem for path in (root / folder).glob("*.py")} - {"__init__"}

    assert set(catalog.models({})) == names("embedding/models")
    assert set(catalog.algorithms()) == names("clustering/algorithms")
    assert set(catalog.strategies()) == names("keyframes/strategies")


def test_the_defaults_exist():
    stand_ins = {name for names in catalog.STAND_INS.values() for name in names}
    assert {*catalog.DEFAULT_MODELS, *stand_ins} <= set(catalog.models({}))
    assert set(catalog.STAND_INS) == set(catalog.DEFAULT_MODELS)
    assert catalog.DEFAULT_ALGORITHM in catalog.algorithms()
    assert catalog.DEFAULT_STRATEGY in catalog.strategies()


def test_every_entry_says_what_it_is_and_what_it_takes():
    for entry in (*catalog.algorithms().values(), *catalog.strategies().values()):
        assert entry.title
        assert all(parameter.name and parameter.type for parameter in entry.parameters)
    assert all(model.title and (model.dimension or 0) > 0 for model in catalog.models({}).values())


def test_settings_are_completed_with_every_default():
    settings = catalog.clustering_settings({"n_clusters": 7})
    assert (settings["algorithm"], settings["scaling"], settings["seed"], settings["n_clusters"]) == (
        "kmeans",
        "l2",
        0,
        7,
    )
    assert catalog.clustering_settings(settings) == settings
    strategy = catalog.strategy_settings({})
    assert strategy["strategy"] == "shots" and catalog.strategy_settings(strategy) == strategy


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"n_clusters": 0}, "n_clusters"),
        ({"n_clusters": -3}, "n_clusters"),
        ({"n_clusters": "many"}, "n_clusters"),
        ({"n_clusters": 2.5}, "n_clusters"),
        ({"n_clusters": True}, "n_clusters"),
        ({"clusters": 4}, "clusters"),
        ({"scaling": "huge"}, "scaling"),
        ({"seed": -1}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"algorithm": "hdbscan", "n_clusters": 5}, "n_clusters"),
    ],
)
def test_a_bad_clustering_parameter_is_named(given, field):
    with pytest.raises(BadParameter) as error:
        catalog.clustering_settings(given)
    assert error.value.field == field
    assert field in str(error.value)


@pytest.mark.parametrize("picture_px", [320, 960, 1920, 8192, "decoded"])
def test_pictures_of_key_frames_may_have_any_sensible_size(picture_px):
    for name in catalog.strategies():
        given = {"strategy": name, "picture_px": picture_px}
        assert catalog.strategy_settings(given) == {**catalog.strategy_settings({"strategy": name}), **given}


@pytest.mark.parametrize("picture_px", [0, -960, 319, 8193, 960.0, "960", "big", True, None, [960], float("nan")])
def test_a_bad_size_of_pictures_is_named(picture_px):
    with pytest.raises(BadParameter, match=r'picture_px is .*from 320 to 8192, or "decoded"') as error:
        catalog.strategy_settings({"picture_px": picture_px})
    assert error.value.field == "picture_px"


@pytest.mark.parametrize("given", [{"strategy": "uniform", "every_s": 0}, {"strategy": "uniform", "every_s": "1"}])
def test_a_bad_strategy_parameter_is_named(given):
    with pytest.raises(BadParameter) as error:
        catalog.strategy_settings(given)
    assert error.value.field == "every_s"


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UnknownName, match=r"no clustering algorithm 'kmean'.*kmeans"):
        catalog.clustering_settings({"algorithm": "kmean"})
    with pytest.raises(UnknownName, match=r"no key-frame strategy 'os'.*uniform"):
        catalog.strategy_settings({"strategy": "os"})


def test_own_models_stand_beside_the_others():
    tiny = catalog.models(OWN)["tiny"]
    assert tiny.own is not None and tiny.own.pooling == "class_token" and tiny.dimension is None


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"hog_color": OWN["tiny"]}, "choose another name"),
        ({"tiny": {"library": "keras", "weights": "x"}}, 'library is .keras.; it takes "torchvision", or'),
        (
            {"tiny": {"library": "transformers", "weights": "x", "pooling": "max"}},
            'pooling is .max.; it takes "class_token", "mean", or "pooler"',
        ),
        ({"tiny": {"weight": "x"}}, "weight"),
    ],
)
def test_a_bad_own_model_is_named(own, words):
    with pytest.raises(BadParameter, match=words) as error:
        catalog.models(own)
    assert error.value.field in own


def test_where_own_weights_may_be_depends_on_the_library():
    own = {
        "member": {"library": "torchvision", "weights": "ResNet50_Weights.IMAGENET1K_V2"},
        "file": {"library": "torchvision", "weights": "net.pth", "architecture": "mobilenet_v2"},
        "repository": {"library": "transformers", "weights": "facebook/dinov2-base"},
        "folder": {"library": "transformers", "weights": "/weights/mine"},
    }
    models = catalog.models(own)
    assert {name: models[name].weights for name in own} == {
        "member": Weights(hub=TorchvisionMember("ResNet50_Weights.IMAGENET1K_V2")),
        "file": Weights(("net.pth",)),
        "repository": Weights(("facebook/dinov2-base",), hub=HuggingFace("facebook/dinov2-base")),
        "folder": Weights(("/weights/mine",)),
    }


ALL = [*catalog.DEFAULT_MODELS, *(name for names in catalog.STAND_INS.values() for name in names), "hog_color"]


@pytest.mark.parametrize(
    ("loads", "unknown", "chosen"),
    [
        (ALL, [], ["efficientnet_b0", "vit_mae_base"]),
        ([], ALL, ["efficientnet_b0", "vit_mae_base"]),
        (["hog_color"], ["efficientnet_b0", "vit_mae_base"], ["efficientnet_b0", "vit_mae_base"]),
        (["efficientnet_lite0"], ["efficientnet_b0", "vit_mae_base"], ["efficientnet_lite0"]),
        (["efficientnet_lite0", "efficientnet_b0"], [], ["efficientnet_b0"]),
        (["efficientnet_lite0", "clip_vit_b32", "dinov2_small"], [], ["efficientnet_lite0", "dinov2_small"]),
        (["vit_mae_base"], ["efficientnet_lite0"], ["vit_mae_base"]),
        (["hog_color"], [], []),
        ([], [], []),
    ],
)
def test_a_job_takes_the_models_that_load_and_never_a_baseline_in_their_place(loads, unknown, chosen):
    available = {name: True if name in loads else None if name in unknown else False for name in ALL}
    assert catalog.default_models(available) == chosen
