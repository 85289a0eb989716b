"""A client of Reelmap's HTTP API: plain JSON values in and out, errors that a person can read."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import requests

DEFAULT_SERVER = "http://127.0.0.1:8000"
API = "/api/v1"
#: The header by which the API knows a request that is sent again.
IDEMPOTENCY_KEY = "Idempotency-Key"
FINAL_STATES = frozenset({"succeeded", "partly_failed", "failed", "cancelled"})
#: What the API takes in one call; more are added to the job call by call.
URLS_PER_CALL = 10_000

CONNECT_TIMEOUT_S = 5
# Above the API's own longest wait, which is that for a query picture's embedding.
READ_TIMEOUT_S = 60
POLL_INTERVAL_S = 1.0
#: What is read of a file at a time.
BLOCK_BYTES = 64 * 1024
#: How long following a job goes on while the server is away: a restart of it is no reason to stop looking.
PATIENCE_S = 60.0
#: How long a search may take; the picture waits in line behind other pictures only.
SEARCH_TIMEOUT_S = 300.0

Json = dict[str, Any]


class ApiError(Exception):
    """The server refused, or did not answer.

    status: HTTP status; None when there was no answer at all. fields: what is wrong with which field of what was sent,
    `videos.3` or `clustering.n_clusters`.
    """

    def __init__(self, message: str, status: int | None = None, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.fields = tuple(fields)


class NoAnswer(ApiError):
    """The connection was lost, or nothing came: what was asked may have been done or not."""


class Client:
    """Talks to the Reelmap at `server`; not for use from several threads.

    key: what to show where keys are asked for. on_wait: called with the seconds before a wait that a server which is
        asked too often demands; once for each request. Every method raises `ApiError`.
    """

    def __init__(
        self, server: str = DEFAULT_SERVER, key: str = "", on_wait: Callable[[float], None] | None = None
    ) -> None:
        self.server = server.rstrip("/")
        self._key = key
        self._on_wait = on_wait
        self._session = requests.Session()
        # A proxy that the environment names for the web at large cannot reach a server on this machine.
        self._session.trust_env = False
        self._session.headers["Accept"] = "application/json, application/problem+json"

    # Jobs

    def check(self, urls: Sequence[str], **settings: Any) -> None:
        """Have what `submit` would refuse be refused, and do nothing. `upload:<id>` may name uploads that are to come.

        Of a job of several calls, what the first would say of the settings, and each of its URLs.
        """
        given = _given(settings)
        for first in range(0, len(urls), URLS_PER_CALL):
            try:
                body = {"videos": list(urls[first : first + URLS_PER_CALL]), **given}
                self._request("POST", "/jobs", params={"dry_run": "true"}, json=body)
            except ApiError as error:
                raise ApiError(
                    str(error), error.status, [(_moved(field, first), said) for field, said in error.fields]
                ) from None

    def submit(self, urls: Sequence[str], **settings: Any) -> Json:
        """Submit a job. settings: `name`, `models`, `clustering`, `key_frames`, `expand`; what is None is left out.

        More URLs than one call takes are added call by call. Returns the job as it was after the last call.
        """
        given = _given(settings)
        job = self._once("/jobs", {"videos": list(urls[:URLS_PER_CALL]), **given})
        for first in range(URLS_PER_CALL, len(urls), URLS_PER_CALL):
            more = urls[first : first + URLS_PER_CALL]
            job = self.add_videos(job["id"], more, expand=bool(settings.get("expand")))
        return job

    def add_videos(self, job_id: str, urls: Sequence[str], *, expand: bool = False) -> Json:
        """Add at most `URLS_PER_CALL` videos to a job; with `expand`, lists become their videos. Returns the job."""
        return self._once(f"/jobs/{job_id}/sources", {"videos": list(urls), **({"expand": True} if expand else {})})

    def correct_source(self, job_id: str, source_id: str, url: str, *, expand: bool = False) -> Json:
        """Put another URL in the place of a source, which is read anew. Returns the job."""
        return self._json("PATCH", f"/jobs/{job_id}/sources/{source_id}", json={"url": url, "expand": expand})

    def remove_source(self, job_id: str, source_id: str) -> None:
        """Take a source out of a job, with what only it brought."""
        self._request("DELETE", f"/jobs/{job_id}/sources/{source_id}")

    def remove_failed_sources(self, job_id: str) -> int:
        """Take every source out of a job that failed. Returns how many."""
        return int(self._json("DELETE", f"/jobs/{job_id}/sources", params={"state": "failed"})["removed"])

    def add_models(self, job_id: str, models: Sequence[str]) -> Json:
        """Embed and cluster a job's key frames under more models. Returns the job."""
        return self._once(f"/jobs/{job_id}/models", {"models": list(models)})

    def upload(
        self, path: Path, on_bytes: Callable[[int], None] | None = None, *, file_name: str | None = None
    ) -> Json:
        """Stream a file in. on_bytes: called with the number of bytes sent since the last call.

        file_name: what to call it; None for its own name.
        """
        with path.open("rb") as file:
            body = _Counted(file, path.stat().st_size, on_bytes)
            headers = {"Content-Type": "application/octet-stream"}
            return self._json(
                "POST", "/uploads", params={"file_name": file_name or path.name}, data=body, headers=headers
            )

    def job(self, job_id: str) -> Json:
        """One job, with its progress."""
        return self._json("GET", f"/jobs/{job_id}")

    def jobs(self, limit: int | None = None, state: str | None = None) -> Iterator[Json]:
        """The jobs, newest first; all of them when there is no limit."""
        return self._pages("/jobs", "jobs", limit, state=state)

    def sources(self, job_id: str, state: str | None = None) -> Iterator[Json]:
        """The sources of a job in the order of submission, each with its outcome."""
        return self._pages(f"/jobs/{job_id}/sources", "sources", state=state)

    def job_key_frames(self, job_id: str, limit: int | None = None) -> Iterator[Json]:
        """The key frames of a job, video by video in the order of submission, each by time."""
        return self._pages(f"/jobs/{job_id}/key-frames", "key_frames", limit)

    def video_key_frames(self, video_id: str, job_id: str | None = None, limit: int | None = None) -> Iterator[Json]:
        """The key frames of a video by time, as this job chose them, or as they were chosen last."""
        return self._pages(f"/videos/{video_id}/key-frames", "key_frames", limit, job=job_id)

    def cancel(self, job_id: str) -> Json:
        """Cancel a job; what it has found stays. Returns the job."""
        return self._json("POST", f"/jobs/{job_id}/cancel")

    def retry(self, job_id: str) -> Json:
        """Try again what failed or was cancelled. Returns the job."""
        return self._json("POST", f"/jobs/{job_id}/retry")

    def delete(self, job_id: str) -> None:
        """Delete a job and everything that belongs to it alone."""
        self._request("DELETE", f"/jobs/{job_id}")

    def follow(self, job_id: str) -> Iterator[Json]:
        """The job about once a second until it is final; a server that goes away is waited for."""
        yield from self._until(lambda: self.job(job_id), lambda job: job["state"] in FINAL_STATES)

    # Clusters

    def clusterings(self, job_id: str) -> Iterator[Json]:
        """The clusterings of a job, newest first."""
        return self._pages(f"/jobs/{job_id}/clusterings", "clusterings")

    def cluster_again(self, job_id: str, settings: Mapping[str, Any]) -> Json:
        """Cluster a job's embeddings once more. settings: `model`, `n_clusters` and others. Returns it."""
        return self._once(f"/jobs/{job_id}/clusterings", settings)

    def clustering(self, clustering_id: str) -> Json:
        """One clustering with its sizes and quality."""
        return self._json("GET", f"/clusterings/{clustering_id}")

    def name_clustering(self, clustering_id: str, name: str) -> Json:
        """Call a clustering by a name, or by none when it is empty. Returns it."""
        return self._json("PATCH", f"/clusterings/{clustering_id}", json={"name": name})

    def delete_clustering(self, clustering_id: str) -> None:
        """Delete a clustering; the key frames and their vectors stay."""
        self._request("DELETE", f"/clusterings/{clustering_id}")

    def follow_clustering(self, clustering_id: str) -> Iterator[Json]:
        """The clustering about once a second until it is final."""
        yield from self._until(lambda: self.clustering(clustering_id), lambda c: c["state"] in FINAL_STATES)

    def clusters(self, clustering_id: str, limit: int | None = None) -> Iterator[Json]:
        """The clusters of a clustering by label, and its noise, of label -1, as the last."""
        return self._pages(f"/clusterings/{clustering_id}/clusters", "clusters", limit)

    def cluster_key_frames(self, cluster_id: str, limit: int | None = None) -> Iterator[Json]:
        """The key frames of a cluster, nearest its centroid first; those of noise by video and time."""
        return self._pages(f"/clusters/{cluster_id}/key-frames", "key_frames", limit)

    def picture(self, url: str) -> bytes:
        """The bytes of a picture that the API named by `image` or `small_image`."""
        return self._request("GET", url).content

    # Exports

    def export(self, subject: Mapping[str, Any], format: str | None = None) -> Json:
        """Ask for an export. subject: `job_id`, `clustering_id`, `cluster_id` or `search`. Returns the export."""
        return self._once("/exports", {**subject, **({} if format is None else {"format": format})})

    def follow_export(self, export_id: str) -> Iterator[Json]:
        """The export about once a second until it is final."""
        yield from self._until(
            lambda: self._json("GET", f"/exports/{export_id}"), lambda export: export["state"] in FINAL_STATES
        )

    def download(self, export: Json, writer: BinaryIO, on_bytes: Callable[[int], None] | None = None) -> None:
        """Write an export's file. What breaks off is taken up where it broke, as long as more comes each time.

        on_bytes: called with the number of bytes since the last call.
        """
        furthest = 0
        while (position := writer.tell()) < export["size_bytes"]:
            headers = {"Range": f"bytes={position}-"} if position else {}
            response = self._request("GET", export["links"]["file"], headers=headers, stream=True)
            with response:
                if position and response.status_code != requests.codes.partial_content:
                    writer.seek(position := 0)
                    writer.truncate()
                try:
                    for block in response.iter_content(BLOCK_BYTES):
                        writer.write(block)
                        if on_bytes is not None:
                            on_bytes(len(block))
                except requests.exceptions.RequestException as error:
                    if writer.tell() <= furthest:
                        raise NoAnswer(f"{self.server} ended the connection: {type(error).__name__}") from None
                    furthest = writer.tell()
                    time.sleep(POLL_INTERVAL_S)
                    continue
            if writer.tell() != export["size_bytes"]:
                raise ApiError(f"{writer.tell()} of {export['size_bytes']} bytes came. Try again.")

    # The rest

    def models(self) -> list[Json]:
        """The embedding models, each with whether it can be used."""
        return list(self._json("GET", "/models")["models"])

    def search(
        self,
        jobs: Sequence[str],
        *,
        picture: Path | None = None,
        key_frame_id: str | None = None,
        model: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """The key frames of the jobs that are nearest to a picture file or to a key frame of Reelmap's own."""
        fields = {"jobs": list(jobs), "model": model, "limit": limit, "key_frame_id": key_frame_id}
        fields = {name: value for name, value in fields.items() if value is not None}
        if picture is None:
            response = self._request("POST", "/search", json=fields)
        else:
            files = {"picture": (picture.name, picture.read_bytes())}
            response = self._request("POST", "/search", data={**fields, "jobs": ",".join(jobs)}, files=files)
        give_up_at = time.monotonic() + SEARCH_TIMEOUT_S
        while response.status_code == requests.codes.accepted:
            if time.monotonic() > give_up_at:
                raise ApiError(f"The picture was not embedded within {SEARCH_TIMEOUT_S:.0f} s. Is the query worker up?")
            time.sleep(POLL_INTERVAL_S)
            response = self._request("GET", response.headers["Location"])
        return _object(response)

    # Transport

    def _once(self, path: str, body: Mapping[str, Any]) -> Json:
        """Ask for something new; sent again when no answer came, it is done once, by the key that names the request."""
        return self._json("POST", path, json=dict(body), headers={IDEMPOTENCY_KEY: str(uuid.uuid4())})

    def _json(self, method: str, path: str, **arguments: Any) -> Json:
        return _object(self._request(method, path, **arguments))

    def _request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        if not path.startswith(("http://", "https://")):
            path = self.server + (path if path.startswith(API + "/") else API + path)
        if not (self._key.isascii() and self._key.isprintable()):
            raise ApiError("The key in REELMAP_KEY holds characters that no key has; copy it again.")
        headers = dict(arguments.pop("headers", {}))
        if self._key and path.startswith(f"{self.server}/"):  # nobody else gets to see it
            headers["Authorization"] = f"Bearer {self._key}"
        may_repeat = IDEMPOTENCY_KEY in headers
        on_wait = self._on_wait
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            if isinstance(body := arguments.get("data"), _Counted):
                body.rewind()
            try:
                response = self._send(method, path, headers=headers, **arguments)
            except NoAnswer:
                if not may_repeat:
                    raise
                may_repeat = False
                time.sleep(POLL_INTERVAL_S)
                continue
            if response.status_code == requests.codes.service_unavailable and may_repeat:
                may_repeat = False
            elif response.status_code != requests.codes.too_many_requests or time.monotonic() > give_up_at:
                break
            elif on_wait is not None:
                on_wait(_retry_after_s(response))
                on_wait = None
            time.sleep(_retry_after_s(response))
        if not response.ok:
            raise ApiError(
                _problem(response) + self._advice(response.status_code), response.status_code, _fields(response)
            )
        return response

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            return self._session.request(method, path, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), **arguments)
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema):
            raise ApiError(
                f"{self.server} is not the address of a server; http://127.0.0.1:8000 would be one"
            ) from None
        except requests.exceptions.Timeout:
            raise NoAnswer(f"{self.server} did not answer within {READ_TIMEOUT_S} s") from None
        except requests.exceptions.ConnectionError as error:
            raise _no_connection(self.server, error) from None

    def _advice(self, status: int) -> str:
        """What a person can do about a missing key."""
        if status != requests.codes.unauthorized:
            return ""
        if self._key:
            return "\n  It is the key in REELMAP_KEY."
        return "\n  Set REELMAP_KEY to a key of yours; `reelmap keys add`, on the server's machine, makes one."

    def _pages(self, path: str, name: str, limit: int | None = None, **filters: Any) -> Iterator[Json]:
        """The items of a list, page after page."""
        cursor, left = None, limit
        while left is None or left > 0:
            page = self._json("GET", path, params={**filters, "cursor": cursor, "limit": min(left or 100, 100)})
            yield from page[name][:left]
            left = None if left is None else left - len(page[name])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _until(self, look: Callable[[], Json], is_done: Callable[[Json], bool]) -> Iterator[Json]:
        seen = look()
        seen_at = time.monotonic()
        yield seen
        while not is_done(seen):
            time.sleep(POLL_INTERVAL_S)
            try:
                seen = look()
            except ApiError as error:
                is_away = error.status is None or error.status >= requests.codes.internal_server_error
                if not is_away or time.monotonic() - seen_at > PATIENCE_S:
                    raise
                continue
            seen_at = time.monotonic()
            yield seen


class _Counted:
    """A file as a request body of known length that tells how much of it was read."""

    def __init__(self, file: BinaryIO, size_bytes: int, on_bytes: Callable[[int], None] | None) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._on_bytes = on_bytes
        self._read_bytes = 0

    def __len__(self) -> int:
        return self._size_bytes

    def rewind(self) -> None:
        """Begin anew, taking back what was counted."""
        self._file.seek(0)
        self._count(-self._read_bytes)

    def read(self, size_bytes: int = -1) -> bytes:
        chunk = self._file.read(size_bytes)
        self._count(len(chunk))
        return chunk

    def _count(self, size_bytes: int) -> None:
        self._read_bytes += size_bytes
        if self._on_bytes is not None and size_bytes:
            self._on_bytes(size_bytes)


def _given(settings: Mapping[str, Any]) -> Json:
    return {name: value for name, value in settings.items() if value not in (None, {}, [], ())}


def _moved(field: str, by: int) -> str:
    """The field of a list's part as that of the list."""
    name, _, index = field.partition(".")
    return f"videos.{int(index) + by}" if name == "videos" and index.isdigit() else field


def _object(response: requests.Response) -> Json:
    try:
        value = response.json()
    except requests.exceptions.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ApiError(f"{response.url} answered with something other than JSON. Is that a Reelmap?")
    return value


def _problem(response: requests.Response) -> str:
    """A problem document as one sentence."""
    try:
        problem = response.json()
        sentence = problem.get("detail") or problem["title"]
        errors = [
            f"{error['field']}: {error['message']}"
            for error in problem.get("errors") or []
            if error["message"] != sentence
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{response.url} answered {response.status_code} {response.reason}"
    return "\n  ".join([sentence, *(error for error in errors if error not in sentence)])


def _fields(response: requests.Response) -> list[tuple[str, str]]:
    try:
        return [(str(error["field"]), str(error["message"])) for error in response.json().get("errors") or []]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _retry_after_s(response: requests.Response) -> float:
    """How long the server asked to wait."""
    given = response.headers.get("Retry-After", "")
    return float(given) if given.isascii() and given.isdigit() else POLL_INTERVAL_S


def _no_connection(server: str, error: Exception) -> ApiError:
    if "NewConnectionError" in str(error) or "NameResolutionError" in str(error):
        return ApiError(f"No Reelmap answers at {server}. Start one with `reelmap up`, or name another with --server.")
    return NoAnswer(f"{server} ended the connection before it answered")
