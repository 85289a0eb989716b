"""What every declared parameter must hold to: the API refuses whatever the worker refuses, by the field's name."""

from __future__ import annotations

import json

import pytest

from services.api.commands.catalog_checks import clustering_settings, key_frame_settings
from services.api.problems import Invalid
from services.clustering.clusterer import ClusteringSettings, load_algorithm
from services.clustering.clusterer import _parameters as made_by_the_clusterer
from services.keyframes.extraction import load_strategy, make_parameters
from shared import catalog
from shared.errors import ErrorKind, PermanentError
from shared.parameters import declared

#: Whatever JSON can hold, and what Python reads beside it.
VALUES = [
    True, False, None, 0, 1, -1, 2, 2.5, 0.0, -0.0, 1e-320, 1e308, float("nan"), float("inf"), -float("inf"),
    10**10, -(10**10), 10**3999, 2**53 + 1, "", "1", "auto", "AUTO", "NaN", "\x00", "\ud83d", "x" * 10_000, "leaf",
    [], [1], {}, {"a": 1}, [[]] * 1000,
]  # fmt: skip

STRATEGIES = [(entry, p) for entry in catalog.strategies().values() for p in entry.parameters]
ALGORITHMS = [(entry, p) for entry in catalog.algorithms().values() for p in entry.parameters]


def named(pair) -> str:
    return f"{pair[0].name}.{pair[1].name}"


def refusal(call) -> tuple[str, str] | None:
    """(field, message) of what the API refuses."""
    try:
        call()
    except Invalid as error:
        [(field, message)] = error.errors
        return field, message
    return None


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("pair", STRATEGIES, ids=named)
def test_a_worker_takes_what_the_api_takes_of_a_strategy(pair, value):
    entry, parameter = pair
    refused = refusal(lambda: key_frame_settings({"strategy": entry.name, parameter.name: value}, "key_frames"))
    if refused is None:
        made = getattr(make_parameters(load_strategy(entry.name), {parameter.name: value}), parameter.name)
        assert made == value and type(made) in parameter.kinds
        return
    field, message = refused
    assert field == f"key_frames.{parameter.name}"
    assert message.startswith(f"{parameter.name} is ") and parameter.takes in message and len(message) < 300
    with pytest.raises(PermanentError, match=parameter.name) as caught:
        make_parameters(load_strategy(entry.name), {parameter.name: value})
    assert caught.value.kind is ErrorKind.BAD_PARAMETERS


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("pair", ALGORITHMS, ids=named)
def test_a_worker_takes_what_the_api_takes_of_an_algorithm(pair, value):
    entry, parameter = pair
    refused = refusal(lambda: clustering_settings({"algorithm": entry.name, parameter.name: value}))
    settings = ClusteringSettings(entry.name, {parameter.name: value})
    if refused is None:
        assert getattr(made_by_the_clusterer(load_algorithm(entry.name), settings), parameter.name) == value
        return
    field, message = refused
    assert field == parameter.name
    assert message.startswith(f"{parameter.name} is ") and parameter.takes in message and len(message) < 300
    with pytest.raises(PermanentError, match=parameter.name) as caught:
        made_by_the_clusterer(load_algorithm(entry.name), settings)
    assert caught.value.kind is ErrorKind.BAD_PARAMETERS


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("parameter", declared(catalog.CommonClustering), ids=lambda parameter: parameter.name)
def test_a_worker_takes_what_the_api_takes_of_any_clustering(parameter, value):
    refused = refusal(lambda: clustering_settings({parameter.name: value}, "clustering"))
    if refused is None:
        assert getattr(ClusteringSettings(**{parameter.name: value}), parameter.name) == value
        return
    assert refused[0] == f"clustering.{parameter.name}" and parameter.takes in refused[1]
    with pytest.raises(ValueError, match=f"^{parameter.name} is "):
        ClusteringSettings(**{parameter.name: value})


@pytest.mark.parametrize("pair", STRATEGIES + ALGORITHMS, ids=named)
def test_a_parameter_says_what_it_takes_and_takes_its_default(pair):
    _, parameter = pair
    assert parameter.takes and parameter.type
    assert parameter.checked(parameter.default) == parameter.default
    if {int, float} & set(parameter.kinds):
        assert parameter.bounds["most"] < 2**63, "numbers are bounded, or a worker breaks on them"
        for bound in filter(None, (parameter.bounds["least"], parameter.bounds["most"])):
            assert parameter.checked(bound) == bound


@pytest.mark.parametrize("pair", STRATEGIES, ids=named)
def test_whole_numbers_and_others_of_the_same_value_are_the_same_settings(pair):
    entry, parameter = pair
    if float not in parameter.kinds:
        return
    whole, other = (catalog.strategy_settings({"strategy": entry.name, parameter.name: value}) for value in (1, 1.0))
    assert json.dumps(whole) == json.dumps(other)
    assert catalog.canonical_sha256(whole) == catalog.canonical_sha256(other)


@pytest.mark.parametrize("name", ["", "n_cluster", "__init__", "self", "x\u202e" * 500, "\ud83d"])
def test_a_parameter_that_there_is_not_is_refused_by_its_name(name):
    field, message = refusal(lambda: clustering_settings({name: 1})) or ("", "")
    assert field in name or len(field) <= 201
    assert "its parameters are: n_clusters" in message and len(message) < 300
    assert "\u202e" not in field + message


@pytest.mark.parametrize("name", [["kmeans"], {}, 3, True, "", "\x00", "k" * 10_000])
def test_an_entry_that_there_is_not_is_refused(name):
    for complete, field in ((clustering_settings, "algorithm"), (key_frame_settings, "strategy")):
        refused = refusal(lambda complete=complete, field=field: complete({field: name}, ""))
        assert refused is not None
        assert refused[0] == field and "there are: " in refused[1] and len(refused[1]) < 300
