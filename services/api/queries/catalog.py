"""The models of the catalog, with what workers found out about them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from services.api.schemas.answers import ModelEntry
from shared import catalog
from shared.settings import Settings

#: For how long a worker's report that it could not load a model, or found no weights, is believed.
PROBLEM_HOLDS_MIN = 10


def list_models(connection: Connection, settings: Settings) -> list[ModelEntry]:
    """Every model there is, by name."""
    rows = {
        row.name: row
        for row in connection.execute(
            text(
                f"""
                SELECT name, dimension, fingerprint,
                       missing IS NULL AND (looked_at IS NOT NULL OR fingerprint IS NOT NULL) AS loads,
                       CASE WHEN problem_at > now() - interval '{PROBLEM_HOLDS_MIN} minutes' THEN problem
                            WHEN looked_at > now() - interval '{PROBLEM_HOLDS_MIN} minutes' THEN missing END AS problem
                FROM models"""
            )
        )
    }
    return [_entry(model, rows.get(name)) for name, model in catalog.models(settings.own_models).items()]


def _entry(model: catalog.Model, row: Any) -> ModelEntry:
    problem = row.problem if row else None
    return ModelEntry(
        name=model.name,
        title=model.title,
        dimension=model.dimension or (row.dimension if row else None),
        available=False if problem else (True if row and row.loads else None),
        problem=problem,
        fingerprint=row.fingerprint if row else None,
    )
