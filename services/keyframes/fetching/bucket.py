"""Download one object of a bucket to disk, without taking more than allowed.

The client comes from the caller: with it the address of the store, the keys, and how long it may say nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.keyframes.fetching.direct import Download
from services.keyframes.fetching.limits import FetchLimits
from services.keyframes.fetching.receiving import Receiver, watched
from shared.buckets import BucketPlace
from shared.clean_text import quoted
from shared.errors import ErrorKind, PermanentError, ReelmapError, TransientError
from shared.urls import SourceUrl, not_opened

_BLOCK_BYTES = 256 * 1024
#: How often a transfer that broke off is taken up where it ended, before the task as a whole is tried again.
_CONTINUATIONS = 3


@dataclass(frozen=True)
class Buckets:
    """What s3 URLs may name, and who gets it.

    connect: gives a client of boto3 for S3; called where it is first needed, because importing boto3 takes a while.
    """

    places: Sequence[BucketPlace]
    connect: Callable[[], Any]


def download_object(
    source: SourceUrl, path: Path, limits: FetchLimits, *, buckets: Buckets, check: Callable[[], None]
) -> Download:
    """Stream the object into a new file at `path`.

    check: called about twice a second; what it raises ends the transfer and is raised here.

    Raises PermanentError or TransientError with a sentence for the person who gave the URL. After an error `path` may
    hold a part of the file; removing it is the caller's part.
    """
    if not source.is_in(buckets.places):
        raise not_opened(source)
    transfer = _Transfer(source, path, limits, buckets.connect)
    return watched(transfer.run, url=source.url, limits=limits, check=check, stop=transfer.stop)


class _Transfer:
    """One transfer, which the waiting thread can stop."""

    def __init__(self, source: SourceUrl, path: Path, limits: FetchLimits, connect: Callable[[], Any]) -> None:
        self._source = source
        self._connect = connect
        self._receiver = Receiver(source.url, path, limits)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Seen after each block; a store that says nothing is waited for as long as the client is patient."""
        self._stopped.set()

    def run(self) -> Download:
        from botocore.exceptions import BotoCoreError, ClientError

        source, receiver = self._source, self._receiver
        version: dict[str, str] = {}
        try:
            client = self._connect()
            for continuation in range(_CONTINUATIONS + 1):
                answer = client.get_object(Bucket=source.host, Key=source.target, **version)
                try:
                    with closing(answer["Body"]) as body:
                        if not version:
                            announced_bytes = answer["ContentLength"]
                            receiver.expect(announced_bytes)
                        with receiver.opened():
                            while block := body.read(_BLOCK_BYTES):
                                self._raise_if_stopped()
                                receiver.write(block)
                    break
                except BotoCoreError:
                    # Only of the same bytes is the rest of any use.
                    self._raise_if_stopped()
                    if continuation == _CONTINUATIONS or receiver.size_bytes == announced_bytes:
                        raise
                    version = {"IfMatch": answer["ETag"]}
                    if receiver.size_bytes:
                        version["Range"] = f"bytes={receiver.size_bytes}-"
        except ClientError as error:
            raise _refusal(source.url, error.response) from error
        except BotoCoreError as error:
            raise TransientError(
                ErrorKind.UNREACHABLE, f"{source.url}: the object store did not answer as it should ({_reason(error)})."
            ) from error
        if receiver.size_bytes == 0:
            raise PermanentError(ErrorKind.EMPTY, f"{source.url}: the object is empty (0 bytes).")
        return Download(receiver.sha256, receiver.size_bytes, source.target.rpartition("/")[2], source.url)

    def _raise_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise TransientError(ErrorKind.UNREACHABLE, f"{self._source.url}: the download was stopped.")


_ASK = "ask who runs this Reelmap, or download the video and upload it"

#: The store's word -> what it means for whoever gave the URL.
_FINAL: dict[str, tuple[ErrorKind, str]] = {
    "NoSuchKey": (
        ErrorKind.NOT_FOUND,
        "there is no such object in the bucket; check its key, which is taken letter by letter",
    ),
    "NoSuchBucket": (ErrorKind.NOT_FOUND, "there is no such bucket; check its name"),
    "InvalidObjectState": (
        ErrorKind.ARCHIVED,
        "the object is archived, and an archive is not read; have it restored, then retry",
    ),
    "AccessDenied": (ErrorKind.FORBIDDEN, f"the store does not let this Reelmap read it; {_ASK}"),
    "AllAccessDisabled": (ErrorKind.FORBIDDEN, f"the store lets nobody read it; {_ASK}"),
    "PermanentRedirect": (
        ErrorKind.FORBIDDEN,
        "the bucket is in another region than this Reelmap asks (REELMAP_S3_REGION); ask who runs it",
    ),
}
#: Words for what is wrong with this installation, which somebody mends while the job waits or is tried again.
_OURS = {
    "InvalidAccessKeyId": "it does not know the access key of this Reelmap",
    "SignatureDoesNotMatch": "the secret key of this Reelmap is wrong",
    "ExpiredToken": "the credentials of this Reelmap have expired",
    "InvalidToken": "the credentials of this Reelmap are not valid",
    "RequestTimeTooSkewed": "its clock and that of this machine differ too much",
}
#: A HEAD, and a store that says little, answer a status and no word.
_BY_STATUS = {404: "NoSuchKey", 403: "AccessDenied", 301: "PermanentRedirect"}
_TOO_OFTEN = frozenset({"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"})


def _refusal(url: str, response: dict[str, Any]) -> ReelmapError:
    """What an answer other than the object means."""
    word = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status == 412:
        return TransientError(ErrorKind.CHANGED, f"{url}: the object was changed while it was read; it is read anew.")
    if word in _TOO_OFTEN or status == 429:
        return TransientError(ErrorKind.THROTTLED, f"{url}: the object store is asked too often.")
    if word in _OURS:
        return TransientError(ErrorKind.STORE_UNAVAILABLE, f"{url}: the object store refuses: {_OURS[word]}.")
    if found := _FINAL.get(word) or _FINAL.get(_BY_STATUS.get(status, "")):
        kind, says = found
        return PermanentError(kind, f"{url}: {says}.")
    code = quoted(f"{status} {word}")
    if status >= 500 or word == "RequestTimeout":
        return TransientError(ErrorKind.SERVER_ERROR, f"{url}: the object store has a problem of its own ({code}).")
    return PermanentError(ErrorKind.FORBIDDEN, f"{url}: the object store refuses it ({code}); {_ASK}.")


def _reason(error: Exception) -> str:
    """What a client says that got no answer, or half of one, without addresses and credentials."""
    from botocore.exceptions import (
        ConnectTimeoutError,
        EndpointConnectionError,
        IncompleteReadError,
        NoCredentialsError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    for kinds, says in (
        ((NoCredentialsError,), "REELMAP_S3_ACCESS_KEY and REELMAP_S3_SECRET_KEY are not set, and there is no role"),
        ((EndpointConnectionError, ConnectTimeoutError), "it cannot be reached"),
        ((ReadTimeoutError,), "it fell silent"),
        ((IncompleteReadError, ResponseStreamingError), "the connection broke"),
    ):
        if isinstance(error, kinds):
            return says
    return type(error).__name__
