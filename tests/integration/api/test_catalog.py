"""What there is to choose from, over HTTP."""

from __future__ import annotations

import pytest
from sqlalchemy import text

pytestmark = pytest.mark.integration


def test_models_say_whether_they_can_be_used(client, database):
    with database.transaction() as connection:
        connection.execute(
            text(
                """INSERT INTO models (name, dimension, fingerprint, loaded_at, problem, problem_at) VALUES
                ('tiny', 192, 'f00', now(), 'old trouble', now() - interval '1 hour'),
                ('hog_color', 1, NULL, NULL, 'it is broken', now())
                ON CONFLICT (name) DO UPDATE SET dimension = excluded.dimension, fingerprint = excluded.fingerprint,
                problem = excluded.problem, problem_at = excluded.problem_at"""
            )
        )
    models = {model.pop("name"): model for model in client.get("/api/v1/models").json["models"]}
    assert {"efficientnet_b0", "vit_mae_base", "vit_mae_base_masked_sum", "dinov2_small", "clip_vit_b32"} <= set(models)
    assert models["efficientnet_b0"]["dimension"] == 1280
    assert models["efficientnet_b0"]["available"] is False
    assert "missing" in models["efficientnet_b0"]["problem"]
    assert models["tiny"] == {
        "title": models["tiny"]["title"], "dimension": 192, "available": True, "problem": None, "fingerprint": "f00",
    }  # fmt: skip
    assert (models["hog_color"]["available"], models["hog_color"]["problem"]) == (False, "it is broken")


def test_a_model_that_nobody_looked_for_is_neither_there_nor_missing(client, database):
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM models"))
    models = {model["name"]: model for model in client.get("/api/v1/models").json["models"]}
    assert (models["vit_mae_base"]["available"], models["vit_mae_base"]["problem"]) == (None, None)


def test_algorithms_and_strategies_say_what_they_take(client):
    algorithms = {entry["name"]: entry for entry in client.get("/api/v1/algorithms").json["algorithms"]}
    assert {"kmeans", "minibatch_kmeans", "hierarchical", "hdbscan"} <= set(algorithms)
    n_clusters = next(p for p in algorithms["kmeans"]["parameters"] if p["name"] == "n_clusters")
    assert n_clusters == {
        "name": "n_clusters",
        "type": 'integer | "auto" | null',
        "takes": 'a whole number from 1 to 100000, "auto", or nothing',
        "default": None,
    }
    strategies = {entry["name"]: entry for entry in client.get("/api/v1/strategies").json["strategies"]}
    every_s = {"name": "every_s", "type": "number", "takes": "a number from 0.01 to 86400", "default": 1.0}
    assert every_s in strategies["uniform"]["parameters"]
