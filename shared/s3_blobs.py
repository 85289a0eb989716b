"""Blobs as objects of a bucket, in a store that speaks S3. Imports boto3, see `s3`."""

from __future__ import annotations

import io
import itertools
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from boto3.s3.transfer import TransferConfig

from shared import failpoints
from shared.blobs import BlobEntry, BlobMissing, UnfinishedPut, is_name, parts_of
from shared.buckets import BucketPlace
from shared.errors import ErrorKind, TransientError
from shared.s3 import ATTEMPTS, ERRORS, S3, code_of, is_missing, reason_of
from shared.settings import MEBIBYTE

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: Requests for small blobs that one call has under way: a round trip takes far longer than the bytes.
SMALL_AT_A_TIME = 16
#: Small blobs that are held for a reader who has not come to them yet.
AHEAD = 32

#: Larger files go in parts, a few at a time, and are given up as a whole when a part is.
PART_BYTES = 16 * MEBIBYTE
_PARTS = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
_COPIED_BYTES = MEBIBYTE
#: What one request may delete.
_DELETED_AT_ONCE = 1000

#: What browsers fetch never changes; not for caches that others share.
_PICTURE_HEADERS = {"ContentType": "image/jpeg", "CacheControl": "private, max-age=31536000, immutable"}


class S3Blobs:
    """A blob store at a place of an object store."""

    def __init__(self, store: S3, place: BucketPlace) -> None:
        self._store = store
        self._bucket = place.bucket
        self._prefix = place.prefix

    def _key(self, name: str) -> str:
        return self._prefix + "/".join(parts_of(name))

    def put(self, name: str, source: Path) -> None:
        key = self._key(name)
        headers = _PICTURE_HEADERS if name.endswith(".jpg") else {}
        try:
            failpoints.reach("blobs.put", name)
            with self._explained(f"take {name}"), source.open("rb") as file:
                if source.stat().st_size < PART_BYTES:
                    self._store.client.put_object(Bucket=self._bucket, Key=key, Body=file, **headers)
                else:
                    self._store.client.upload_fileobj(file, self._bucket, key, ExtraArgs=headers, Config=_PARTS)
        except OSError as error:
            raise self._unavailable(f"take {name}", error.strerror or str(error)) from error

    def put_all(self, sources: Mapping[str, Path]) -> None:
        self._store.connect()
        # The answers are of no interest, but what they raise is.
        deque(_overlapped(lambda item: self.put(*item), sources.items()), maxlen=0)

    def read(self, name: str) -> bytes:
        content = io.BytesIO()
        self._receive(name, content)
        return content.getvalue()

    def read_all(self, names: Iterable[str]) -> Iterator[bytes]:
        self._store.connect()
        return _overlapped(self.read, names)

    @contextmanager
    def open_file(self, name: str, folder: Path) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            path = Path(own, "blob")
            with path.open("wb") as file:
                self._receive(name, file)
            yield path

    def _receive(self, name: str, writer: IO[bytes]) -> None:
        """Write the blob's bytes; a connection that breaks in the middle is taken up where it broke."""
        key = self._key(name)
        version: dict[str, str] = {}
        with self._explained(f"give {name}", name):
            for attempt in range(1, ATTEMPTS + 1):
                answer = self._store.client.get_object(Bucket=self._bucket, Key=key, **version)
                chunks = answer["Body"].iter_chunks(_COPIED_BYTES)
                try:
                    while (chunk := next(chunks, b"")) != b"":
                        writer.write(chunk)
                    return
                except ERRORS:
                    if attempt == ATTEMPTS:
                        raise
                if position := writer.tell():
                    version = {"Range": f"bytes={position}-", "IfMatch": answer["ETag"]}

    def delete(self, names: Iterable[str]) -> None:
        keys = iter([self._key(name) for name in names])
        refused = []
        while batch := list(itertools.islice(keys, _DELETED_AT_ONCE)):
            with self._explained(f"remove {batch[0]}"):
                answer = self._store.client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            # One that cannot be removed must not keep the others.
            refused += answer.get("Errors", ())
        if refused:
            raise self._unavailable(f"remove {refused[0]['Key']}", refused[0]["Code"])

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        for page in self._pages("list_objects_v2", Prefix=self._prefix + prefix):
            for entry in page.get("Contents", ()):
                name = entry["Key"].removeprefix(self._prefix)
                # Others' tools put markers such as `pictures/` into buckets.
                if is_name(name):
                    yield BlobEntry(name, entry["LastModified"].timestamp(), entry["Size"])

    def unfinished(self) -> Iterator[UnfinishedPut]:
        for page in self._pages("list_multipart_uploads", Prefix=self._prefix):
            for upload in page.get("Uploads", ()):
                where = {"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                yield UnfinishedPut(
                    upload["Key"].removeprefix(self._prefix),
                    upload["Initiated"].timestamp(),
                    partial(self._received_bytes, where),
                    partial(self._abandon, where),
                )

    def _received_bytes(self, where: Mapping[str, str]) -> int:
        with self._explained("list its unfinished uploads"):
            try:
                pages = self._store.client.get_paginator("list_parts").paginate(**where)
                return sum(part["Size"] for page in pages for part in page.get("Parts", ()))
            except ERRORS as error:
                if code_of(error) != "NoSuchUpload":
                    raise
                return 0  # ended meanwhile

    def _abandon(self, where: Mapping[str, str]) -> None:
        with self._explained("remove an unfinished upload"):
            try:
                self._store.client.abort_multipart_upload(**where)
            except ERRORS as error:
                if code_of(error) != "NoSuchUpload":
                    raise

    def _pages(self, operation: str, **of: str) -> Iterator[dict[str, Any]]:
        pages = iter(self._store.client.get_paginator(operation).paginate(Bucket=self._bucket, **of))
        while True:
            with self._explained("list its objects"):
                page = next(pages, None)
            if page is None:
                return
            yield page

    def clock_ahead_s(self) -> float:
        with self._explained("say what time it is"):
            answer = self._store.client.head_bucket(Bucket=self._bucket)
        theirs = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return time.time() - theirs.timestamp()

    def link(self, name: str, expires_s: int, *, file_name: str | None = None) -> str:
        asked = {"Bucket": self._bucket, "Key": self._key(name)}
        if file_name is not None:
            asked["ResponseContentDisposition"] = f'attachment; filename="{file_name}"'
        with self._explained(f"sign an address of {name}"):
            address: str = self._store.public_client.generate_presigned_url(
                "get_object", Params=asked, ExpiresIn=expires_s
            )
        return address

    @cached_property
    def link_origin(self) -> str:
        parts = urlsplit(self._store.public_address(self._bucket))
        return f"{parts.scheme}://{parts.netloc}"

    @contextmanager
    def _explained(self, what: str, name: str | None = None) -> Iterator[None]:
        """Raise what the store's errors mean to us. name: of a blob that may be missing."""
        try:
            yield
        except ERRORS as error:
            if name is not None and is_missing(error):
                raise BlobMissing(name) from None
            raise self._unavailable(what, reason_of(error)) from error

    def _unavailable(self, what: str, reason: str) -> TransientError:
        return TransientError(
            ErrorKind.STORE_UNAVAILABLE, f"the picture store, bucket {self._bucket}, could not {what}: {reason}"
        )


def _overlapped(function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """What the function answers to each item, in their order: several at a time, and not far ahead of the reader."""
    pool = ThreadPoolExecutor(SMALL_AT_A_TIME, thread_name_prefix="blobs")
    waiting: deque[Future[Answer]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
