"""The embedding stage: pictures from blobs, through the model, to vectors. Also for query pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from sqlalchemy import Connection

from services.embedding import store
from services.embedding.embedder import Embedder, Rgb, Vectors, embed_all
from services.embedding.loading import load_embedder
from services.embedding.pictures import read_picture
from services.embedding.store import PicturesWork
from shared import catalog, tasks
from shared.blobs import BlobMissing, BlobStore
from shared.db import Database
from shared.errors import ErrorKind, PermanentError
from shared.pipeline import CHUNK_SIZE, Queue
from shared.pipeline import Stage as StageName
from shared.runner import Runner, Stage, Work
from shared.settings import Settings
from shared.tasks import Claim


class LoadedModels:
    """The models that this process has loaded, each on its first use."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._embedders: dict[str, Embedder] = {}

    def get(self, name: str) -> Embedder:
        """The model. Raises `PermanentError` when it cannot be loaded or is not the one that its vectors are from."""
        if name not in self._embedders:
            self._embedders[name] = self._load(name)
        return self._embedders[name]

    def _load(self, name: str) -> Embedder:
        settings = self._settings
        model = catalog.models(settings.own_models).get(name)
        if model is None:
            raise PermanentError(
                ErrorKind.BAD_PARAMETERS,
                f"this worker knows no model {name}; REELMAP_OWN_MODELS must be the same for the API and the workers",
            )
        try:
            embedder = load_embedder(model, settings.weights_dir, hub=settings.hub, device=settings.device)
        except PermanentError as error:
            problem = error.message
            self._database.retrying(lambda connection: store.note_problem(connection, name, problem))
            raise
        self._database.retrying(lambda connection: store.register_model(connection, name, embedder))
        return embedder


def make_stage(
    settings: Settings, queue: Queue, database: Database, blobs: BlobStore, runner: Runner
) -> Stage[PicturesWork, tuple[PicturesWork, Vectors]]:
    """The stage as one worker process does it, for the queue of key frames or of query pictures."""
    loaded_models = LoadedModels(settings, database)

    def fill(connection: Connection, first: Claim, loaded: PicturesWork) -> list[Claim]:
        return tasks.claim_more(
            connection,
            first,
            key_frames=CHUNK_SIZE - len(loaded.ids),
            owner=runner.owner,
            lease_s=runner.lease_s,
        )

    def compute(works: Sequence[PicturesWork], work: Work) -> list[tuple[PicturesWork, Vectors]]:
        embedder = loaded_models.get(works[0].model)
        X = embed_all(embedder, _pictures(blobs, chain.from_iterable(w.blobs for w in works), work))
        ends = np.cumsum([len(w.blobs) for w in works])[:-1]
        return list(zip(works, np.split(X, ends), strict=True))

    return Stage(
        StageName.EMBEDDING if queue is Queue.EMBEDDING else queue.value,
        settings.embedding_deadline_s,
        store.load,
        compute,
        store.save,
        fill if queue is Queue.EMBEDDING else None,
    )


def _pictures(blobs: BlobStore, names: Iterator[str], work: Work) -> Iterator[Rgb]:
    try:
        for content in blobs.read_all(names):
            work.check()
            yield read_picture(content)
    except BlobMissing as missing:
        raise PermanentError(ErrorKind.BAD_PICTURE, f"the picture {missing} is gone from the store") from None
