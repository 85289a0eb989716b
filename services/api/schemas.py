"""The shapes of requests and answers: what is checked at the door, and what the OpenAPI document says.

Answers are also what `queries/` returns, to the views and to the pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from services.api.cursors import DEFAULT_LIMIT, MAX_LIMIT
from shared.catalog import DEFAULT_FORMAT
from shared.clean_text import one_clean_line
from shared.keys import MAX_NAME
from shared.pipeline import JOB_STAGES, Outcome, Stage
from shared.roles import Role
from shared.tasks import JobState, TaskState

#: At most so many URLs in one call; more by `POST /jobs/{id}/sources`.
MAX_URLS = 10_000
MAX_JOBS_OF_A_SEARCH = 100
MAX_EXPORTED_RESULTS = 10_000
MAX_MODEL_NAME = 200
MAX_GIVEN_NAME = 200
MAX_FILE_NAME = 255

ID_PATTERN = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


def _beginning_of_an_id() -> str:
    """Groups of 8, 4, 4, 4 and 12 digits with dashes between them, of which all but the first may be cut off."""
    digit, pattern = "[0-9a-fA-F]", ""
    for digits in (12, 4, 4, 4):
        pattern = f"(?:-{digit}{{0,{digits - 1}}}|-{digit}{{{digits}}}{pattern})?"
    return f"{digit}{{8}}{pattern}"


#: Without anchors. See `short_ids`.
ID_BEGINNING = _beginning_of_an_id()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("it holds a character that cannot be stored (NUL, or half of a surrogate pair)")
    return text


def _at_most(characters: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if len(text) > characters:
            raise ValueError(f"it may have at most {characters} characters")
        return text

    return check


def _id_of_a_job(text: str) -> str:
    if not re.fullmatch(ID_PATTERN, text):
        raise ValueError("this is not the id of a job")
    return text


def _beginning(text: str) -> str:
    if not re.fullmatch(ID_BEGINNING, text):
        raise ValueError("this is no id, nor the beginning of one, which has at least 8 characters")
    return text.lower()


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("it is empty, or holds a character that cannot be shown")
    return text.strip()


def _split(value: Any) -> Any:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


#: In UTC, to the second below.
Time = Annotated[datetime, AfterValidator(_utc)]
Id = Annotated[str, Field(pattern=ID_PATTERN, json_schema_extra={"format": "uuid"})]
#: An id in a request, or its beginning: `short_ids.completed` puts the whole one in its place.
GivenId = Annotated[str, AfterValidator(_beginning), Field(json_schema_extra={"pattern": f"^{ID_BEGINNING}$"})]
JobId = Annotated[str, AfterValidator(_id_of_a_job), Field(json_schema_extra={"pattern": ID_PATTERN, "format": "uuid"})]
Words = Annotated[str, AfterValidator(_storable)]
ModelName = Annotated[
    Words, AfterValidator(_at_most(MAX_MODEL_NAME)), Field(json_schema_extra={"maxLength": MAX_MODEL_NAME})
]
#: What a person calls a job or a clustering; empty is no name. Cleaned and not refused, because people paste what a
#: page or a terminal gave them.
GivenName = Annotated[
    str,
    AfterValidator(_at_most(MAX_GIVEN_NAME)),
    AfterValidator(one_clean_line),
    Field(json_schema_extra={"maxLength": MAX_GIVEN_NAME}),
]


class Request(BaseModel):
    """A body: unknown fields are refused, so that a typing mistake does not pass as a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Query(BaseModel):
    """Parameters in the address or in headers: unknown ones are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Settings(BaseModel):
    """Settings whose further fields are the parameters of what they name; `shared.catalog` checks them."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Answer(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True)


# --- Requests -----------------------------------------------------------------------------------------------------


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
JobIdsAsText = Annotated[JobIds | None, BeforeValidator(_split, json_schema_input_type=str)]


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
    format: Annotated[Words, AfterValidator(_at_most(MAX_MODEL_NAME))] = DEFAULT_FORMAT


class KeyRequest(Request):
    """A new key of the project of the key that asks for it."""

    name: Annotated[
        str,
        AfterValidator(_printable),
        AfterValidator(_at_most(MAX_NAME)),
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
        Words, AfterValidator(_at_most(MAX_FILE_NAME)), Field(json_schema_extra={"maxLength": MAX_FILE_NAME})
    ] = ""


class IdempotencyHeaders(Query):
    """A name for this request: sent again within 24 hours with the same body, it is answered as the first time."""

    idempotency_key: Annotated[str, Field(pattern=r"^[!-~]{1,255}$")] | None = None


class IfNoneMatchHeaders(Query):
    if_none_match: str | None = None


# --- Answers ------------------------------------------------------------------------------------------------------

Links = dict[str, str]
#: A part, 0 to 1, of frames that were left out.
Reduction = Annotated[float, Field(description="1 - key frames / frames")] | None


class Problem(Answer):
    """What went wrong (RFC 9457)."""

    class FieldProblem(Answer):
        field: str
        message: str

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem]
    request_id: str


class Failure(Answer):
    """Why something failed: a word for programs, a sentence for people."""

    kind: str
    message: str


class StageProgress(Answer):
    """Tasks of one stage, by state."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


Progress = Annotated[dict[Stage, StageProgress], Field(description=f"by stage: {', '.join(JOB_STAGES)}")]


class StageFailure(Failure):
    """Why so many tasks of a job failed. Of sources, which each have an outcome too, `message` is that of one."""

    stage: Stage
    model: str | None
    tasks: int


class Job(Answer):
    """What a person submitted, and how far it is. `frames` are those that were read.

    worked_s: how long there was something to do, all rounds together. retry_may_help: whether something failed or was
    cancelled that may go better when it is tried again.
    """

    id: Id
    name: str
    state: JobState
    round: int
    models: list[str]
    key_frames: dict[str, Any]
    clustering: dict[str, Any]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    progress: Progress
    sources: int
    videos: int
    frames: int
    key_frames_count: int
    reduction: Reduction
    eta_s: float | None
    worked_s: float
    retry_may_help: bool
    failures: list[StageFailure]
    links: Links


class AcceptedJob(Job):
    """A job that was submitted or grew; `repeated_urls` were named more than once and became one source."""

    repeated_urls: list[str]


class JobList(Answer):
    jobs: list[Job]
    next_cursor: str | None


class Video(Answer):
    """The content behind a source. Sizes are as displayed; `average_rate_hz` is None where the file does not say.

    `notes` are sentences about what may be wrong with its pictures, and what else its file holds.
    """

    id: Id
    sha256: str
    size_bytes: int
    duration_s: float
    frames: int
    width_px: int | None
    height_px: int | None
    container: str | None
    codec: str | None
    average_rate_hz: float | None
    shots: int
    damaged_packets: int
    notes: list[str]


class SourceOfKeyFrame(Answer):
    """Where a key frame, or its video, was seen. `link` opens the source at that second, where it has a way to."""

    job_id: Id
    url: str
    title: str | None
    link: str | None


class SeenVideo(Video):
    """A video, the newest sources that it came from, and how many key frames one job, or the last one, chose of it."""

    key_frames: int
    reduction: Reduction
    sources: list[SourceOfKeyFrame]
    links: Links


class Attempt(Answer):
    """One try at reading a source: which process had it, and how it ended. `outcome` is null while it runs."""

    attempt: int
    owner: str | None
    started_at: Time | None
    ended_at: Time | None
    outcome: Outcome | None
    error: Failure | None


class Source(Answer):
    """One submitted URL, and what came of it. A queued source with an error is going to be tried again.

    history: the last attempts, the oldest first. expanded_into: of a list that became its videos, how many those are.
    parent_id: the list that a source comes from.
    """

    id: Id
    position: int
    url: str
    state: TaskState
    attempts: int
    history: list[Attempt]
    error: Failure | None
    title: str | None
    expanded_into: int | None
    parent_id: Id | None
    video: Video | None
    key_frames: int | None
    reduction: Reduction
    links: Links


class RemovedSources(Answer):
    """How many sources were taken out of the job."""

    removed: int


class SourceList(Answer):
    sources: list[Source]
    next_cursor: str | None


class Clustering(Answer):
    """One run of one algorithm over one model's vectors. The result is null until it succeeded.

    name: what a person called it. title: its model, its algorithm and every setting that is not the usual one. round:
    the last round of the job whose content it shows. superseded: a later round clustered more by the same settings.
    """

    id: Id
    job_id: Id
    name: str
    title: str
    round: int
    superseded: bool
    model: str
    settings: dict[str, Any]
    asked: bool
    state: TaskState
    error: Failure | None
    created_at: Time
    finished_at: Time | None
    key_frames: int | None
    complete: bool | None
    n_clusters_asked: int | str | None
    n_clusters_used: int | None
    seed: int | None
    inertia: float | None
    silhouette: float | None
    noise: int | None
    sizes: list[int]
    evidence: list[dict[str, Any]] | None
    notes: list[str]
    links: Links


class ClusteringList(Answer):
    clusterings: list[Clustering]
    next_cursor: str | None


class Shot(Answer):
    index: int
    start_s: float
    end_s: float


class KeyFrame(Answer):
    """The frame that stands for a shot or a part of it. `repeats`: when it was seen again, nearly the same."""

    id: Id
    video_id: Id
    frame_index: int
    time_s: float
    shot: Shot
    width_px: int
    height_px: int
    repeats: list[list[float]]
    image: str
    small_image: str
    sources: list[SourceOfKeyFrame]


class KeyFrameAt(KeyFrame):
    """A key frame at a distance; null for noise, which has no centroid."""

    distance: float | None


class KeyFramesByTime(Answer):
    key_frames: list[KeyFrame]
    next_cursor: str | None


class KeyFrameList(Answer):
    key_frames: list[KeyFrameAt]
    next_cursor: str | None


class Cluster(Answer):
    """A group of a clustering. `video_share`: the part of the clustering's videos that it touches.

    The last of a clustering may be its noise, of label -1: the key frames that are in no group. It has no centroid, and
    so no distances and no medoid.
    """

    id: Id
    clustering_id: Id
    label: int
    size: int
    videos: int
    video_share: float
    mean_distance: float | None
    medoid: KeyFrame | None
    nearest: list[KeyFrameAt]
    links: Links


class ClusterList(Answer):
    clusters: list[Cluster]
    next_cursor: str | None


class Membership(Answer):
    """A key frame's place in one clustering, by its cluster, or by noise with the label -1."""

    cluster_id: Id
    label: int
    size: int
    distance: float | None
    clustering_id: Id
    job_id: Id
    model: str
    name: str
    title: str
    links: Links


class MembershipList(Answer):
    clusters: list[Membership]


class ModelEntry(Answer):
    """An embedding model. `available`: null while nobody has tried; `problem` says why not."""

    name: str
    title: str
    dimension: int | None
    available: bool | None
    problem: str | None
    fingerprint: str | None


class ModelEntries(Answer):
    models: list[ModelEntry]


class ParameterEntry(Answer):
    """A parameter: `type` in the words of JSON, `takes` in those of a person, with its bounds."""

    name: str
    type: str
    takes: str
    default: Any


class Entry(Answer):
    name: str
    title: str
    parameters: list[ParameterEntry]


class AlgorithmEntries(Answer):
    algorithms: list[Entry]


class StrategyEntries(Answer):
    strategies: list[Entry]


class SearchQuery(Answer):
    """What was searched with: the id of a key frame or of a picture that was sent."""

    key_frame_id: Id | None
    query_id: Id | None


class SearchResults(Answer):
    """Key frames by cosine distance, nearest first. `links.picture` is the picture that was searched with."""

    query: SearchQuery
    model: str
    results: list[KeyFrameAt]
    next_cursor: str | None
    links: Links


class PendingSearch(Answer):
    """The picture has no vector yet: ask again at `Location`."""

    query: SearchQuery
    model: str
    links: Links


class Export(Answer):
    """Key frames on their way into a file. `written` of `key_frames` are in it; the file is at `links.file` when done.

    subject: what is exported: its `kind` and what names it.
    """

    id: Id
    subject: dict[str, Any]
    format: str
    state: TaskState
    error: Failure | None
    created_at: Time
    finished_at: Time | None
    expires_at: Time
    key_frames: int | None
    written: int
    size_bytes: int | None
    file_name: str
    links: Links


class ExportList(Answer):
    exports: list[Export]
    next_cursor: str | None


class FormatEntry(Answer):
    name: str
    title: str
    media_type: str
    suffix: str


class FormatEntries(Answer):
    formats: list[FormatEntry]


class Upload(Answer):
    """A file that was taken in; `url` goes into `videos`."""

    id: Id
    url: str
    size_bytes: int
    sha256: str
    file_name: str


class Key(Answer):
    """A key without its secret. `last_used_at` is true to the minute."""

    id: Id
    name: str
    role: Role
    prefix: str
    project: str
    created_at: Time
    last_used_at: Time | None
    revoked_at: Time | None


class NewKey(Key):
    """A key that was just made. `key` is its text, which is shown this once."""

    key: str


class KeyList(Answer):
    keys: list[Key]
    next_cursor: str | None


class Health(Answer):
    status: Literal["ok"]
