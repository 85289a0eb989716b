"""The keyframes stage: fetch, hash, stop if the project has the extraction, else decode."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from services.keyframes import store
from services.keyframes.cell.decoder import Decoder
from services.keyframes.extraction import Extraction
from services.keyframes.fetching.fetch import Buckets, Fetched, FetchLimits, Reach, VideoList, fetch
from services.keyframes.reading.limits import DecodeLimits
from services.keyframes.store import SourceResult, SourceWork
from shared.blobs import BlobMissing, BlobStore
from shared.catalog import COMMON_KEY_FRAMES
from shared.db import Database
from shared.errors import ErrorKind, PermanentError
from shared.runner import Handler, Work
from shared.settings import Settings
from shared.sources import MAX_LISTED
from shared.tasks import Claim

if TYPE_CHECKING:
    from shared.s3 import S3

#: How long a server or a store of somebody's videos may say nothing.
READ_TIMEOUT_S = 15


class KeyFramesHandler(Handler[SourceWork, SourceResult | VideoList]):
    """What one worker process does with sources."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore, decoder: Decoder) -> None:
        self.deadline_s = settings.keyframes_deadline_s
        self._database = database
        self._blobs = blobs
        self._decoder = decoder
        self._fetch_limits = FetchLimits(
            max_bytes=settings.max_video_bytes,
            max_redirects=settings.max_redirects,
            connect_timeout_s=5,
            read_timeout_s=READ_TIMEOUT_S,
            total_timeout_s=settings.fetch_timeout_s,
            max_duration_s=settings.max_video_s,
        )
        self._reach = Reach(settings.allow_private_hosts, settings.fetch_port_numbers)
        self._allow_generic_extractor = settings.allow_generic_extractor
        self._buckets = _buckets(settings)
        # The stage's deadline ends a video; the decoder's own limits also do where this process cannot look any more.
        self._decode_limits = DecodeLimits(
            max_duration_s=settings.max_video_s,
            max_cpu_s=math.ceil(settings.keyframes_deadline_s),
            max_wall_s=settings.keyframes_deadline_s,
        )

    def load(self, connection: Connection, claim: Claim) -> SourceWork | None:
        return store.load(connection, claim)

    def save(self, connection: Connection, claim: Claim, loaded: SourceWork, result: SourceResult | VideoList) -> None:
        if isinstance(result, VideoList):
            store.save_list(connection, claim, loaded, result)
        else:
            store.save(connection, claim, loaded, result)

    def compute(self, items: Sequence[SourceWork], work: Work) -> list[SourceResult | VideoList]:
        return [self._compute_one(source, work) for source in items]

    def _compute_one(self, source: SourceWork, work: Work) -> SourceResult | VideoList:
        recipe = store.recipe(source.settings)
        with self._fetched(source, work) as fetched:
            if isinstance(fetched, VideoList):
                return fetched
            known = self._database.retrying(
                lambda connection: store.find_extraction(connection, source.project_id, fetched.sha256, recipe)
            )
            extraction = None if known else self._extract(source, fetched.path, work)
        extraction_id = known or store.new_extraction_id()
        if extraction:
            store.put_pictures(self._blobs, extraction_id, extraction)
        return SourceResult(
            sha256=fetched.sha256,
            size_bytes=fetched.size_bytes,
            title=fetched.title,
            recipe=recipe,
            analysis_recipe=store.analysis_recipe(source.settings),
            extraction_id=extraction_id,
            extraction=extraction,
        )

    @contextmanager
    def _fetched(self, source: SourceWork, work: Work) -> Iterator[Fetched | VideoList]:
        """The video's bytes in a file, for as long as the block runs: from where the URL leads, or an upload's."""
        if not source.url.startswith("upload:"):
            yield fetch(
                source.url,
                work.folder,
                self._fetch_limits,
                reach=self._reach,
                check=work.check,
                allow_generic_extractor=self._allow_generic_extractor,
                buckets=self._buckets,
                max_listed=MAX_LISTED if source.list_levels else 0,
            )
            return
        if source.upload is None:
            raise PermanentError(ErrorKind.UPLOAD_MISSING, f"{source.url} is not there any more; upload it again")
        blob, sha256, file_name = source.upload
        with ExitStack() as stack:
            try:
                path = stack.enter_context(self._blobs.open_file(blob, work.folder))
            except BlobMissing:
                raise PermanentError(
                    ErrorKind.UPLOAD_MISSING, f"the bytes of {source.url} ({file_name}) are gone; upload it again"
                ) from None
            yield Fetched(path, sha256, path.stat().st_size, file_name, source.url, "file")

    def _extract(self, source: SourceWork, path: Path, work: Work) -> Extraction:
        not_its_own = ("strategy", *COMMON_KEY_FRAMES)
        parameters = {name: value for name, value in source.settings.items() if name not in not_its_own}
        return self._decoder.extract(
            path,
            work.folder / "pictures",
            source.settings["strategy"],
            parameters,
            limits=self._decode_limits,
            check=work.check,
            picture_px=store.picture_px(source.settings),
        )


def _buckets(settings: Settings) -> Buckets | None:
    """Where jobs may take videos from; None for nowhere, and then nothing here ever asks for credentials."""
    if not settings.s3_source_places:
        return None

    @cache
    def store() -> S3:
        from shared.s3 import S3

        # Once each: what breaks is taken up where it ended, and tried again as a task.
        return S3(settings, read_timeout_s=READ_TIMEOUT_S, attempts=1)

    return Buckets(settings.s3_source_places, lambda: store().client)
