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
from shared import catalog
from shared.blobs import BlobMissing, BlobStore
from shared.db import Database
from shared.errors import ErrorKind, PermanentError
from shared.pipeline import CHUNK_SIZE, Queue
from shared.runner import Handler, Work
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


class EmbeddingHandler(Handler[PicturesWork, Vectors]):
    """What one worker process does with key frames, or with query pictures."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self.deadline_s = settings.embedding_deadline_s
        self._blobs = blobs
        self._loaded_models = LoadedModels(settings, database)

    def load(self, connection: Connection, claim: Claim) -> PicturesWork | None:
        return store.load(connection, claim)

    def save(self, connection: Connection, claim: Claim, loaded: PicturesWork, result: Vectors) -> None:
        store.save(connection, claim, loaded, result)

    def room(self, claim: Claim, loaded: PicturesWork) -> int:
        """Up to a whole chunk, which fills a GPU; a query is not kept waiting for others."""
        return CHUNK_SIZE - len(loaded.ids) if claim.queue is Queue.EMBEDDING else 0

    def compute(self, items: Sequence[PicturesWork], work: Work) -> list[Vectors]:
        embedder = self._loaded_models.get(items[0].model)
        X = embed_all(embedder, _pictures(self._blobs, chain.from_iterable(one.blobs for one in items), work))
        return np.split(X, np.cumsum([len(one.blobs) for one in items])[:-1])


def _pictures(blobs: BlobStore, names: Iterator[str], work: Work) -> Iterator[Rgb]:
    try:
        for content in blobs.read_all(names):
            work.check()
            yield read_picture(content)
    except BlobMissing as missing:
        raise PermanentError(ErrorKind.BAD_PICTURE, f"the picture {missing} is gone from the store") from None
