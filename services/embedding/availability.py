"""Writes down which models can be loaded here, so that the API offers those, and takes them by default."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from sqlalchemy.exc import DBAPIError

from services.embedding import store
from services.embedding.weights import at_hand, missing
from shared import catalog
from shared.catalog import Model
from shared.db import Database
from shared.settings import Settings

logger = logging.getLogger(__name__)

#: Between two looks: folders are filled while workers run. The API believes a look for twice as long.
LOOK_EVERY_S = 300.0
#: After a look that could not be written down, as while the servers start.
TRY_AGAIN_S = 5.0
STOP_LOOK_S = 0.5


def missing_here(models: Iterable[Model], settings: Settings) -> dict[str, str | None]:
    """Model → None when its weights are in the folder or a package, else why not.

    A model is left out where only its hub could tell, which is not asked, or only torchvision, which is not loaded.
    """
    problems: dict[str, str | None] = {}
    for model in models:
        if model.weights is None:
            problems[model.name] = None
        elif not model.weights.names:
            continue
        elif at_hand(model.weights, settings.weights_dir):
            problems[model.name] = None
        elif not (model.weights.hub and settings.hub):
            says = "downloads are switched off (REELMAP_HUB)"
            problems[model.name] = missing(model.name, model.weights, settings.weights_dir, hub_says=says).message
    return problems


def note_what_loads(settings: Settings, database: Database) -> dict[str, str | None]:
    """Look once, and write down what `missing_here` says, which is returned. Raises `DBAPIError`."""
    problems = missing_here(catalog.models(settings.own_models).values(), settings)
    with database.transaction() as connection:
        store.note_missing(connection, problems)
    return problems


class Looking(threading.Thread):
    """Looks at the start, and every few minutes, while a worker runs, whether or not it has work."""

    def __init__(self, settings: Settings, stopping: Callable[[], bool]) -> None:
        super().__init__(name="models", daemon=True)
        self._settings = settings
        self._stopping = stopping

    def run(self) -> None:
        while not self._stopping():
            self._wait(LOOK_EVERY_S if self._look() else TRY_AGAIN_S)

    def _look(self) -> bool:
        """Look once. False: it could not be written down."""
        # Connections of its own, and none between two looks: this process forks.
        database = Database(self._settings.database_url, application_name="reelmap-models")
        try:
            note_what_loads(self._settings, database)
        except DBAPIError as error:
            logger.info("could not write down which models load: %s", str(error.orig).partition("\n")[0])
            return False
        finally:
            database.dispose()
        return True

    def _wait(self, seconds: float) -> None:
        waited = threading.Event()
        for _ in range(int(seconds / STOP_LOOK_S)):
            if self._stopping():
                return
            waited.wait(STOP_LOOK_S)
