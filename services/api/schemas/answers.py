"""What is answered: also what `queries/` returns, to the views and to the pages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from services.api.schemas.fields import Answer, Id, Time
from shared.pipeline import JOB_STAGES, Outcome, Stage
from shared.roles import Role
from shared.tasks import JobState, TaskState

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
