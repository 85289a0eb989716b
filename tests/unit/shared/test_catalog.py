"""The catalog finds every file by its name, completes settings and refuses what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import catalog
from shared.catalog import UnknownName
from shared.parameters import BadParameter

OWN = {"tiny": {"library": "transformers", "weights": "vit_tiny", "pooling": "class_token"}}


def test_every_file_is_an_entry():
    root = Path(catalog.__file__).parents[1] / "services"

    def names(folder: str) -> set[str]:
        return {path.stem for path in (root / folder).glob("*.py")} - {"__init__"}

    assert set(catalog.models({})) == names("embedding/models")
    assert set(catalog.algorithms()) == names("clustering/algorithms")
    assert set(catalog.strategies()) == names("keyframes/strategies")


def test_the_defaults_exist():
    assert set(catalog.DEFAULT_MODELS) <= set(catalog.models({}))
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
        "standard",
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


def test_missing_weights_are_known_before_any_task(tmp_path):
    model = catalog.models({})["efficientnet_b0"]
    sentence = model.missing_weights(tmp_path, hub=False)
    assert sentence and "efficientnet_b0" in sentence and str(tmp_path) in sentence
    assert model.missing_weights(tmp_path, hub=True) is None, "the hub may have them"
    (tmp_path / model.weights.names[0]).touch()
    assert model.missing_weights(tmp_path, hub=False) is None
    assert catalog.models({})["hog_color"].missing_weights(None, hub=False) is None


def test_what_is_known_of_own_weights_depends_on_the_library(tmp_path):
    own = {
        "member": {"library": "torchvision", "weights": "ResNet50_Weights.IMAGENET1K_V2"},
        "file": {"library": "torchvision", "weights": "net.pth", "architecture": "mobilenet_v2"},
        "repository": {"library": "transformers", "weights": "facebook/dinov2-base"},
        "folder": {"library": "transformers", "weights": str(tmp_path / "nothing")},
    }
    models = catalog.models(own)
    missing = {name for name in own if models[name].missing_weights(tmp_path, hub=True)}
    assert missing == {"file", "folder"}
    assert models["repository"].missing_weights(tmp_path, hub=False)
    assert models["member"].missing_weights(tmp_path, hub=False) is None, "only its worker can tell"


def test_a_file_in_the_current_folder_is_not_the_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = catalog.models({})["efficientnet_b0"]
    (tmp_path / model.weights.names[0]).touch()
    assert model.missing_weights(None, hub=False)


def test_equal_values_have_equal_names():
    assert catalog.canonical_sha256({"b": 1, "a": [1.5]}) == catalog.canonical_sha256({"a": [1.5], "b": 1})
