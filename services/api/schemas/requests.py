"""What may be asked: bodies, and parameters in addresses and headers, checked at the door."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool

from services.api.cursors import DEFAULT_LIMIT, MAX_LIMIT
from services.api.schemas.fields import (
    MAX_EXPORTED_RESULTS,
    MAX_FILE_NAME,
    MAX_JOBS_OF_A_SEARCH,
    MAX_MODEL_NAME,
    MAX_URLS,
    GivenId,
    GivenName,
    Id,
    JobId,
    ModelName,
    Query,
    Request,
    Settings,
    Words,
    at_most,
    printable,
    split,
)
from shared.catalog import DEFAULT_FORMAT
from shared.keys import MAX_NAME
from shared.roles import Role
from shared.tasks import JobState, TaskState


class KeyFrameSettings(Settings):
    """How key frames are chosen: a strategy and its parameters (`GET /strategies`)."""

    strategy: str | None = None


class ClusteringSettings(Settings):
    """How key frames are grouped: an algorithm and its parameters (`GET /algorithms`)."""

    algorithm: str | None = None


Videos = Annotated[list[str], Field(min_length=1, json_schema_extra={"maxItems": MAX_URLS})]
Expand = Annotated[
    StrictBool, Field(description="Whether playlists and channels become their videos, each a source of its own")
]
ModelNames = Annotated[list[ModelName], Field(min_length=1, max_length=100)]


class JobRequest(Request):
    """A list of video URLs (`https://…`, `s3://…` of open buckets, or `upload:<id>`), and what to do with them."""

    videos: Videos
    expand: Expand = False
    name: GivenName = ""
    models: ModelNames | None = None
    key_frames: KeyFrameSettings = KeyFrameSettings()
    clustering: ClusteringSettings = ClusteringSettings()


class SourcesRequest(Request):
    """Further video URLs of a job."""

    videos: Videos
    expand: Expand = False


class SourceCorrection(Request):
    """Another URL in the place of a source, which is read anew."""

    url: str
    expand: Expand = False


class ModelsRequest(Request):
    """Further models of a job."""

    models: ModelNames


class ClusteringRequest(ClusteringSettings):
    """Another clustering of a job. `model` may be left out when the job has one."""

    model: ModelName | None = None
    name: GivenName = ""


class ClusteringChange(Request):
    """What a person calls a clustering; empty for no name."""

    name: GivenName


Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
JobIds = Annotated[list[GivenId], Field(max_length=MAX_JOBS_OF_A_SEARCH)]
#: The same where lists are written as text, with commas between the ids.
JobIdsAsText = Annotated[JobIds | None, BeforeValidator(split, json_schema_input_type=str)]


class SearchRequest(Request):
    """What is to be similar to what. One of `key_frame_id` and `query_id`; a picture is sent as a form.

    jobs: all of them when left out. model: when left out, that of the picture, or the first of the key frame's job that
    there is a vector of. A picture that was sent for another model is embedded again, and need not be sent again.
    """

    key_frame_id: GivenId | None = None
    query_id: GivenId | None = None
    jobs: JobIds | None = None
    model: ModelName | None = None
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class PictureSearchRequest(Request):
    """The fields beside the picture of a form."""

    jobs: JobIdsAsText = None
    model: ModelName | None = None
    limit: Limit = DEFAULT_LIMIT


class ExportedSearch(Request):
    """The answer to a search: one of `key_frame_id` and `query_id`, as in `POST /search`.

    jobs: all of them when left out. model: when left out, one that there are vectors of.
    """

    key_frame_id: GivenId | None = None
    query_id: GivenId | None = None
    jobs: JobIds | None = None
    model: ModelName | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_EXPORTED_RESULTS)] = DEFAULT_LIMIT


class ExportRequest(Request):
    """What is to be exported: one of `job_id`, `clustering_id`, `cluster_id`, `search`. format: `GET /formats`."""

    job_id: GivenId | None = None
    clustering_id: GivenId | None = None
    cluster_id: GivenId | None = None
    search: ExportedSearch | None = None
    format: Annotated[Words, AfterValidator(at_most(MAX_MODEL_NAME))] = DEFAULT_FORMAT


class KeyRequest(Request):
    """A new key of the project of the key that asks for it."""

    name: Annotated[
        str,
        AfterValidator(printable),
        AfterValidator(at_most(MAX_NAME)),
        Field(json_schema_extra={"minLength": 1, "maxLength": MAX_NAME}),
    ]
    role: Role


class Paging(Query):
    """Which part of a list. `cursor` is the `next_cursor` of the page before."""

    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class JobsPaging(Paging):
    state: JobState | None = None


class SourcesPaging(Paging):
    state: TaskState | None = None


class RemovedState(Query):
    state: Literal[TaskState.FAILED]


class OfJob(Query):
    """`job`: whose key frames of the video are meant, when jobs have chosen them by different settings; its id.

    Left out: those that were chosen last.
    """

    job: JobId | None = None


class Origin(OfJob):
    """Where somebody comes from: what is alike is looked for in that job and by that model."""

    model: ModelName | None = None


class SearchForm(Origin):
    """The fields of the page's form beside a picture: what it searched with before."""

    query: Id | None = None
    key_frame: Id | None = None


class SearchPage(Origin):
    """The address of a page with what is like a key frame, or like the picture that its path names."""

    key_frame: Id | None = None
    cursor: str | None = None


class OfJobPaging(Paging, OfJob):
    pass


class ClustersPaging(Paging):
    order: Literal["label", "size"] = "label"


class ImageSize(Query):
    size: Literal["full", "small"] = "full"


class SearchPolling(Query):
    """`jobs`: ids with commas between them. `cursor`: the `next_cursor` of the results before."""

    jobs: JobIdsAsText = None
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class DryRun(Query):
    dry_run: bool = False


class UploadName(Query):
    file_name: Annotated[
        Words, AfterValidator(at_most(MAX_FILE_NAME)), Field(json_schema_extra={"maxLength": MAX_FILE_NAME})
    ] = ""


class IdempotencyHeaders(Query):
    """A name for this request: sent again within 24 hours with the same body, it is answered as the first time."""

    idempotency_key: Annotated[str, Field(pattern=r"^[!-~]{1,255}$")] | None = None


class IfNoneMatchHeaders(Query):
    if_none_match: str | None = None
