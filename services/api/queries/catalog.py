"""The models of the catalog, with what workers found out about them."""

from __future__ import annotations

from sqlalchemy import Connection, text

from services.api.schemas import ModelEntry
from shared import catalog
from shared.settings import Settings

#: For how long a worker's report that it could not load a model is believed.
PROBLEM_HOLDS_MIN = 10


def list_models(connection: Connection, settings: Settings) -> list[ModelEntry]:
    """Every model there is, by name."""
    rows = {
        row.name: row
        for row in connection.execute(
            text(
                f"""
                SELECT name, dimension, fingerprint,
                       CASE WHEN problem_at > now() - interval '{PROBLEM_HOLDS_MIN} minutes' THEN problem END AS problem
                FROM models"""
            )
        )
    }
    return [_entry(model, rows.get(name), settings) for name, model in catalog.models(settings.own_models).items()]


def _entry(model: catalog.Model, row: object, settings: Settings) -> ModelEntry:
    fingerprint = getattr(row, "fingerprint", None)
    missing = model.missing_weights(settings.weights_dir, settings.hub) if settings.sees_weights else None
    problem = missing or getattr(row, "problem", None)
    in_folder = model.missing_weights(settings.weights_dir, False) is None
    return ModelEntry(
        name=model.name,
        title=model.title,
        dimension=model.dimension or getattr(row, "dimension", None),
        available=False if problem else (True if in_folder or fingerprint else None),
        problem=problem,
        fingerprint=fingerprint,
    )
