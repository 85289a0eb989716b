"""The command that fills the weights folder from the hubs: once, before the workers that read it start.

`python -m services.embedding.fetch_weights [MODEL ...]` leaves alone what is there. Several at once take turns, so that
many workers on one volume never fetch the same file many times.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.embedding.weights import at_hand, download, named
from shared import catalog
from shared.catalog import Model
from shared.logs import configure_logging
from shared.settings import Settings, load_settings
from shared.startup import Unfit, explained

logger = logging.getLogger(__name__)

LOCK = ".fetching"


def fetch_weights(models: Sequence[Model], weights_dir: Path, *, hub: bool) -> None:
    """Bring the weights of every model that needs some into the folder, where they are not there yet.

    hub: whether anything may be fetched. Raises `Unfit` with a sentence for each model that could not be had, after
    the others are there.
    """
    missing = [model for model in models if not _is_there(model, weights_dir)]
    if not missing:  # also in a folder that may only be read
        logger.info("nothing to fetch: %s are there", _names(models), extra={"event": "weights_there"})
        return
    if not hub:
        raise Unfit(f"The weights of {_names(missing)} are missing, and REELMAP_HUB switches downloads off.")
    problems = []
    with _alone(weights_dir):
        for model in missing:
            if _is_there(model, weights_dir):  # another one has fetched them meanwhile
                continue
            try:
                _fetch(model, weights_dir)
            except OSError as error:
                problems.append(f"The weights of {model.name} could not be fetched: {error}")
    if problems:
        raise Unfit(" ".join(problems))


def _is_there(model: Model, weights_dir: Path) -> bool:
    return model.weights is None or at_hand(model.weights, weights_dir) is not None


def _names(models: Sequence[Model]) -> str:
    return ", ".join(model.name for model in models)


def _fetch(model: Model, weights_dir: Path) -> None:
    assert model.weights is not None
    weights = named(model.weights)
    if weights.hub is None:
        raise OSError(f"no hub is known for them; put {' or '.join(weights.names)} into {weights_dir} yourself")
    # Fetched beside the place where they belong, and put there when they are whole.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=weights_dir) as folder:
        logger.info("fetching the weights of %s", model.name, extra={"event": "weights_fetching"})
        found = download(weights.hub, Path(folder, "cache"))
        whole = Path(folder, "whole")
        if found.is_dir():
            shutil.copytree(found, whole)  # a hub's cache holds links
        else:
            shutil.copyfile(found, whole)
        target = weights_dir / weights.names[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(whole, target)
        logger.info("the weights of %s are in %s", model.name, target, extra={"event": "weights_fetched"})


@contextmanager
def _alone(weights_dir: Path) -> Iterator[None]:
    try:
        weights_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(weights_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Unfit(f"The weights folder {weights_dir} cannot be written to: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def chosen(names: Sequence[str], settings: Settings) -> list[Model]:
    """The models of these names; those that a job takes when it names none, and all own ones, when left out.

    Raises `Unfit` for a name that no model has.
    """
    known = catalog.models(settings.own_models)
    wanted = list(names) or [*catalog.DEFAULT_MODELS, *settings.own_models]
    if unknown := [name for name in wanted if name not in known]:
        raise Unfit(f"There is no model {', '.join(unknown)}; there are {', '.join(known)}.")
    return [known[name] for name in wanted]


@explained()
def main(arguments: Sequence[str] | None = None) -> None:
    """Exit with 0 when all weights are there, with 2 and the reasons when some could not be had."""
    parser = argparse.ArgumentParser(
        prog="python -m services.embedding.fetch_weights", description="Fill REELMAP_WEIGHTS_DIR from the hubs."
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="left out: the default models, and your own")
    asked = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging("fetch_weights", settings.log_level)
    settings.require("weights_dir")
    assert settings.weights_dir is not None
    models = chosen(asked.models, settings)
    fetch_weights(models, settings.weights_dir, hub=settings.hub)


if __name__ == "__main__":
    main()
