"""What there is to choose from: models, clustering algorithms, key-frame strategies."""

from __future__ import annotations

from apiflask import APIBlueprint

from services.api import paths
from services.api.context import service, transaction
from services.api.queries.catalog import list_models as query_models
from services.api.schemas.answers import AlgorithmEntries, Entry, ModelEntries, ParameterEntry, StrategyEntries
from shared import catalog

blueprint = APIBlueprint("catalog", __name__, url_prefix=paths.API, tag="Catalog")


@blueprint.get("/models")
@blueprint.output(ModelEntries)
def list_models() -> ModelEntries:
    """List the embedding models"""
    with transaction() as connection:
        return ModelEntries(models=query_models(connection, service().settings))


@blueprint.get("/algorithms")
@blueprint.output(AlgorithmEntries)
def list_algorithms() -> AlgorithmEntries:
    """List the clustering algorithms"""
    return AlgorithmEntries(algorithms=[_entry(entry) for entry in catalog.algorithms().values()])


@blueprint.get("/strategies")
@blueprint.output(StrategyEntries)
def list_strategies() -> StrategyEntries:
    """List the key-frame strategies"""
    return StrategyEntries(strategies=[_entry(entry) for entry in catalog.strategies().values()])


def _entry(entry: catalog.Entry) -> Entry:
    parameters = [ParameterEntry(name=p.name, type=p.type, takes=p.takes, default=p.default) for p in entry.parameters]
    return Entry(name=entry.name, title=entry.title, parameters=parameters)
