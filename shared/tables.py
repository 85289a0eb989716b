"""The tables: shapes and constraints only.

Every sentence of the form "exists at most once" in DESIGN is a unique constraint here. State columns are written by
`shared/tasks` alone; everywhere else they are read.
"""

from __future__ import annotations

from enum import StrEnum

from pgvector.sqlalchemy import Vector
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB, REAL

from shared.pipeline import Outcome, Queue, Stage

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: The project of everybody who has not been given another one.
DEFAULT_PROJECT_ID = "00000000-0000-0000-0000-000000000001"


def _id() -> Column[str]:
    return Column("id", Uuid(as_uuid=False), primary_key=True, server_default=text("gen_random_uuid()"))


def _ref(name: str, target: str, *, nullable: bool = False, ondelete: str | None = "CASCADE") -> Column[str]:
    return Column(name, Uuid(as_uuid=False), ForeignKey(target, ondelete=ondelete), nullable=nullable)


def _one_of(column: str, words: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(word.value) for word in words)})"


def _created_at() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


#: One row. The store of blobs bears the same id, see `shared/ownership.py`.
installation = Table(
    "installation",
    metadata,
    Column("is_only", Boolean, primary_key=True, server_default=text("true")),
    Column("id", Uuid(as_uuid=False), nullable=False, server_default=text("gen_random_uuid()")),
    CheckConstraint("is_only", name="is_only"),
)

projects = Table(
    "projects",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _created_at(),
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    _ref("project_id", "projects.id"),
    Column("name", Text, nullable=False, server_default=""),
    Column("state", Text, nullable=False, server_default="queued"),
    Column("round", Integer, nullable=False, server_default="1"),
    Column("models", ARRAY(Text), nullable=False),
    Column("key_frames", JSONB, nullable=False),  # {"strategy": ..., every parameter}
    Column("clustering", JSONB, nullable=False),  # settings of the clusterings that every round makes
    _created_at(),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    # Time of work, without that in which nothing was to do: of what ended, and since when there is something to do.
    Column("worked_s", DOUBLE_PRECISION, nullable=False, server_default="0"),
    Column("resumed_at", DateTime(timezone=True)),
    CheckConstraint(
        "state IN ('queued', 'running', 'succeeded', 'partly_failed', 'failed', 'cancelled')", name="state"
    ),
    Index("ix_jobs_page", "project_id", text("created_at DESC"), text("id DESC")),
)

videos = Table(
    "videos",
    metadata,
    _id(),
    _ref("project_id", "projects.id"),
    Column("sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    _created_at(),
    UniqueConstraint("project_id", "sha256"),
)

sources = Table(
    "sources",
    metadata,
    _id(),
    _ref("job_id", "jobs.id"),
    Column("position", Integer, nullable=False),
    Column("url", Text, nullable=False),
    Column("host", Text),  # whose patience the fetch uses; NULL for uploads
    Column("title", Text),
    # Set when the key frames are there: what was behind the URL, and how it was cut up.
    _ref("video_id", "videos.id", nullable=True, ondelete=None),
    _ref("extraction_id", "extractions.id", nullable=True, ondelete=None),
    # A page that names a list of videos: how many levels of lists may become their videos (0: it is refused), into how
    # many it did, and the list that a source came from.
    Column("list_levels", Integer, nullable=False, server_default="0"),
    Column("expanded_into", Integer),
    _ref("parent_id", "sources.id", nullable=True, ondelete="SET NULL"),
    _created_at(),
    UniqueConstraint("job_id", "url"),
    UniqueConstraint("job_id", "position"),
    Index("ix_sources_video_id", "video_id"),
    Index("ix_sources_extraction_id", "extraction_id"),
    Index("ix_sources_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
)

extractions = Table(
    "extractions",
    metadata,
    _id(),
    _ref("video_id", "videos.id"),
    Column("recipe", Text, nullable=False),  # SHA-256 of the canonical JSON of everything that made the key frames
    # The same without what models do not see: extractions of a video that agree in it have the same vectors. NULL where
    # models see what is kept: a worker of the version before, which may still run, knows no other.
    Column("analysis_recipe", Text),
    Column("settings", JSONB, nullable=False),  # the same in words
    Column("frames", Integer, nullable=False),
    Column("duration_s", DOUBLE_PRECISION, nullable=False),
    Column("facts", JSONB, nullable=False),  # container, codec, displayed size, rate ...
    Column("shots", JSONB, nullable=False),  # [[start_frame, end_frame, start_s, end_s], ...]
    Column("damaged_packets", Integer, nullable=False),
    Column("key_frame_count", Integer, nullable=False),
    _created_at(),
    UniqueConstraint("video_id", "recipe"),
)

key_frames = Table(
    "key_frames",
    metadata,
    _id(),
    _ref("extraction_id", "extractions.id"),
    Column("position", Integer, nullable=False),  # 0, 1, ... by frame index within the extraction; chunks count these
    Column("frame_index", Integer, nullable=False),
    Column("time_s", DOUBLE_PRECISION, nullable=False),
    Column("pts", BigInteger),
    Column("shot_index", Integer, nullable=False),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("blob", Text, nullable=False),
    Column("small_blob", Text, nullable=False),
    Column("analysis_blob", Text),  # what models see; NULL where that is the picture itself
    Column("repeats", JSONB, nullable=False),  # [[start_s, end_s], ...] where a near-duplicate was left out
    UniqueConstraint("extraction_id", "frame_index"),
    UniqueConstraint("extraction_id", "position"),
)

models = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("dimension", Integer),
    Column("fingerprint", Text),  # written by the first worker that loads the model
    Column("loaded_at", DateTime(timezone=True)),
    Column("problem", Text),  # why the last worker that tried could not load it
    Column("problem_at", DateTime(timezone=True)),
    Column("looked_at", DateTime(timezone=True)),  # when a worker, loaded or not, last looked for its weights
    Column("missing", Text),  # why they cannot be had, as it saw then; NULL: they are there
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("key_frame_id", Uuid(as_uuid=False), ForeignKey("key_frames.id", ondelete="CASCADE"), primary_key=True),
    Column("model", Text, ForeignKey("models.name"), primary_key=True),
    Column("vector", Vector(), nullable=False),  # of any dimension, as the model gives it
)

clusterings = Table(
    "clusterings",
    metadata,
    _id(),
    _ref("job_id", "jobs.id"),
    Column("round", Integer, nullable=False),  # the last whose content it shows
    Column("model", Text, nullable=False),
    Column("settings", JSONB, nullable=False),  # as asked for
    Column("settings_key", Text, nullable=False),  # SHA-256 of their canonical JSON
    Column("asked", Boolean, nullable=False),  # by a person, rather than made by the job's round
    Column("name", Text, nullable=False, server_default=""),  # what a person calls it
    _created_at(),
    # The result; NULL until it succeeded
    Column("key_frame_count", Integer),
    Column("complete", Boolean),  # whether nothing of the job was open when the vectors were read
    Column("n_clusters_asked", Text),  # a number, "auto", or NULL when left out
    Column("n_clusters_used", Integer),
    Column("seed", BigInteger),
    Column("inertia", DOUBLE_PRECISION),
    Column("silhouette", DOUBLE_PRECISION),
    Column("noise_count", Integer),
    Column("evidence", JSONB),  # the values of k that were tried, with their quality
    Column("notes", JSONB),  # sentences for people
    Index(
        "uq_clusterings_of_a_round",
        "job_id",
        "round",
        "model",
        "settings_key",
        unique=True,
        postgresql_where=text("NOT asked"),
    ),
    Index("ix_clusterings_page", "job_id", text("created_at DESC"), text("id DESC")),
)

clusters = Table(
    "clusters",
    metadata,
    _id(),
    _ref("clustering_id", "clusterings.id"),
    Column("label", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("video_count", Integer, nullable=False),
    Column("mean_distance", DOUBLE_PRECISION),
    Column("centroid", Vector()),  # mean of the members as the model gave them
    Column("scaled_centroid", Vector()),  # the same in the space that was clustered
    _ref("medoid_id", "key_frames.id", nullable=True, ondelete="CASCADE"),
    UniqueConstraint("clustering_id", "label"),
    Index("ix_clusters_medoid_id", "medoid_id"),
)

assignments = Table(
    "assignments",
    metadata,
    Column("clustering_id", Uuid(as_uuid=False), ForeignKey("clusterings.id", ondelete="CASCADE"), primary_key=True),
    Column("key_frame_id", Uuid(as_uuid=False), ForeignKey("key_frames.id", ondelete="CASCADE"), primary_key=True),
    Column("label", Integer, nullable=False),  # -1 is noise
    Column("distance", REAL),  # to the own centroid, in the space that was clustered; NULL for noise
    Index("ix_assignments_nearest_first", "clustering_id", "label", "distance", "key_frame_id"),
    Index("ix_assignments_key_frame_id", "key_frame_id"),
)

queries = Table(
    "queries",
    metadata,
    _id(),
    _ref("project_id", "projects.id"),
    Column("model", Text, nullable=False),
    Column("blob", Text, nullable=False),  # the picture
    Column("vector", Vector()),
    _created_at(),
)

exports = Table(
    "exports",
    metadata,
    _id(),
    _ref("project_id", "projects.id"),
    _ref("job_id", "jobs.id", nullable=True),  # whose key frames, and with which it goes; NULL for a search
    Column("subject", JSONB, nullable=False),  # {"kind": "job" | "clustering" | "cluster" | "search", what names it}
    Column("format", Text, nullable=False),
    _created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    # How far it is, for people; and the file, NULL until it succeeded
    Column("key_frame_count", Integer),
    Column("written_count", Integer, nullable=False, server_default="0"),
    Column("blob", Text),
    Column("size_bytes", BigInteger),
    Index("ix_exports_page", "project_id", text("created_at DESC"), text("id DESC")),
    Index("ix_exports_job_id", "job_id"),
    Index("ix_exports_expires_at", "expires_at"),
)

uploads = Table(
    "uploads",
    metadata,
    _id(),
    _ref("project_id", "projects.id"),
    Column("file_name", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("blob", Text, nullable=False),
    _created_at(),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    _ref("project_id", "projects.id"),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True),  # the part of the key that may be shown
    Column("sha256", Text, nullable=False),  # of the part that may not
    _created_at(),
    Column("last_used_at", DateTime(timezone=True)),  # to the minute
    Column("revoked_at", DateTime(timezone=True)),
    CheckConstraint("role IN ('reader', 'writer', 'admin')", name="role"),
    Index("uq_api_keys_name", "project_id", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
    Index("ix_api_keys_page", "project_id", text("created_at DESC"), text("id DESC")),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Uuid(as_uuid=False), ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),  # SHA-256 of method, path and body
    Column("status", Integer, nullable=False),
    Column("location", Text),
    Column("body", JSONB, nullable=False),
    _created_at(),
)

tasks = Table(
    "tasks",
    metadata,
    _id(),
    _ref("job_id", "jobs.id", nullable=True),  # NULL for work beside jobs
    Column("stage", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="queued"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("attempts_allowed", Integer, nullable=False, server_default="3"),
    Column("run_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("sent_at", DateTime(timezone=True)),
    Column("claimed_at", DateTime(timezone=True)),
    Column("lease_until", DateTime(timezone=True)),
    Column("owner", Text),
    Column("finished_at", DateTime(timezone=True)),
    Column("error_kind", Text),
    Column("error", Text),
    # What the task is about: exactly one of these groups
    _ref("source_id", "sources.id", nullable=True),
    Column("host", Text),
    _ref("video_id", "videos.id", nullable=True),
    Column("model", Text),
    Column("chunk", Integer),
    _ref("clustering_id", "clusterings.id", nullable=True),
    _ref("query_id", "queries.id", nullable=True),
    _ref("export_id", "exports.id", nullable=True),
    _created_at(),
    CheckConstraint(_one_of("stage", Stage), name="stage"),
    CheckConstraint(_one_of("queue", Queue), name="queue"),
    CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state"),
    CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="lease"),
    CheckConstraint("(state = 'failed') <= (error IS NOT NULL)", name="reason"),
    CheckConstraint("state IN ('queued', 'running') OR finished_at IS NOT NULL", name="finished"),
    CheckConstraint(
        "CASE queue "
        + " ".join(f"WHEN '{q.value}' THEN num_nonnulls({', '.join(q.subject)}) = {len(q.subject)}" for q in Queue)
        + " END",
        name="subject",
    ),
    # NOT NULL rather than the queue, because only so can the cascades of foreign keys use them too.
    Index("uq_tasks_keyframes", "source_id", unique=True, postgresql_where=text("source_id IS NOT NULL")),
    Index(
        "uq_tasks_embedding",
        "job_id",
        "video_id",
        "model",
        "chunk",
        unique=True,
        postgresql_where=text("queue = 'embedding'"),
    ),
    Index("uq_tasks_clustering", "clustering_id", unique=True, postgresql_where=text("clustering_id IS NOT NULL")),
    Index("uq_tasks_query", "query_id", unique=True, postgresql_where=text("query_id IS NOT NULL")),
    Index("uq_tasks_exports", "export_id", unique=True, postgresql_where=text("export_id IS NOT NULL")),
    # The dispatcher: what to send next of each job; what was sent and waits; what was sent lately.
    Index(
        "ix_tasks_waiting",
        "queue",
        "job_id",
        "run_at",
        "id",
        postgresql_where=text("state = 'queued' AND sent_at IS NULL"),
    ),
    Index("ix_tasks_unclaimed", "queue", "sent_at", postgresql_where=text("state = 'queued' AND sent_at IS NOT NULL")),
    Index("ix_tasks_lease_until", "lease_until", postgresql_where=text("state = 'running'")),
    Index("ix_tasks_sent_at", "queue", "sent_at", postgresql_where=text("sent_at IS NOT NULL")),
    # A worker that fills up its batch.
    Index("ix_tasks_of_model", "queue", "model", "run_at", "id", postgresql_where=text("state = 'queued'")),
    # Whether something of a job is open: asked at the end of every task.
    Index("ix_tasks_open", "job_id", "queue", "model", postgresql_where=text("state IN ('queued', 'running')")),
    Index("ix_tasks_of_job", "job_id", "queue", "state"),
    Index("ix_tasks_video_id", "video_id"),
)

#: Every attempt that ended, as `shared/tasks` writes it with the move that ends it. One that runs is in `tasks`.
task_attempts = Table(
    "task_attempts",
    metadata,
    Column("task_id", Uuid(as_uuid=False), ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("owner", Text),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("outcome", Text, nullable=False),
    Column("error_kind", Text),
    Column("error", Text),
    CheckConstraint(_one_of("outcome", Outcome), name="outcome"),
)
