"""Every table of the pipeline."""

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import Vector
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("problem_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_models")),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_idempotency_keys_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("round", sa.Integer(), server_default="1", nullable=False),
        sa.Column("models", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("key_frames", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("clustering", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'partly_failed', 'failed', 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_jobs_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        "ix_jobs_page",
        "jobs",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "queries",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("blob", sa.Text(), nullable=False),
        sa.Column("vector", Vector(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_queries_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queries")),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("blob", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_uploads_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_table(
        "videos",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_videos_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_videos")),
        sa.UniqueConstraint("project_id", "sha256", name=op.f("uq_videos_project_id_sha256")),
    )
    op.create_table(
        "clusterings",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("settings_key", sa.Text(), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("key_frame_count", sa.Integer(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=True),
        sa.Column("n_clusters_asked", sa.Text(), nullable=True),
        sa.Column("n_clusters_used", sa.Integer(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("inertia", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("silhouette", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("noise_count", sa.Integer(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("notes", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_clusterings_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clusterings")),
    )
    op.create_index(
        "ix_clusterings_page",
        "clusterings",
        ["job_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "uq_clusterings_of_a_round",
        "clusterings",
        ["job_id", "round", "model", "settings_key"],
        unique=True,
        postgresql_where=sa.text("NOT asked"),
    )
    op.create_table(
        "extractions",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("video_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("duration_s", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("shots", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("damaged_packets", sa.Integer(), nullable=False),
        sa.Column("key_frame_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["video_id"], ["videos.id"], name=op.f("fk_extractions_video_id_videos"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_extractions")),
        sa.UniqueConstraint("video_id", "recipe", name=op.f("uq_extractions_video_id_recipe")),
    )
    op.create_table(
        "key_frames",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("extraction_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("frame_index", sa.Integer(), nullable=False),
        sa.Column("time_s", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("pts", sa.BigInteger(), nullable=True),
        sa.Column("shot_index", sa.Integer(), nullable=False),
        sa.Column("width_px", sa.Integer(), nullable=False),
        sa.Column("height_px", sa.Integer(), nullable=False),
        sa.Column("blob", sa.Text(), nullable=False),
        sa.Column("small_blob", sa.Text(), nullable=False),
        sa.Column("repeats", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["extraction_id"],
            ["extractions.id"],
            name=op.f("fk_key_frames_extraction_id_extractions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key_frames")),
        sa.UniqueConstraint("extraction_id", "frame_index", name=op.f("uq_key_frames_extraction_id_frame_index")),
        sa.UniqueConstraint("extraction_id", "position", name=op.f("uq_key_frames_extraction_id_position")),
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("video_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("extraction_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["extraction_id"], ["extractions.id"], name=op.f("fk_sources_extraction_id_extractions")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_sources_job_id_jobs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_sources_video_id_videos")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("job_id", "position", name=op.f("uq_sources_job_id_position")),
        sa.UniqueConstraint("job_id", "url", name=op.f("uq_sources_job_id_url")),
    )
    op.create_index("ix_sources_extraction_id", "sources", ["extraction_id"], unique=False)
    op.create_index("ix_sources_video_id", "sources", ["video_id"], unique=False)
    op.create_table(
        "assignments",
        sa.Column("clustering_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("key_frame_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("distance", sa.REAL(), nullable=True),
        sa.ForeignKeyConstraint(
            ["clustering_id"],
            ["clusterings.id"],
            name=op.f("fk_assignments_clustering_id_clusterings"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["key_frame_id"], ["key_frames.id"], name=op.f("fk_assignments_key_frame_id_key_frames"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("clustering_id", "key_frame_id", name=op.f("pk_assignments")),
    )
    op.create_index("ix_assignments_key_frame_id", "assignments", ["key_frame_id"], unique=False)
    op.create_index(
        "ix_assignments_nearest_first",
        "assignments",
        ["clustering_id", "label", "distance", "key_frame_id"],
        unique=False,
    )
    op.create_table(
        "clusters",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("clustering_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("video_count", sa.Integer(), nullable=False),
        sa.Column("mean_distance", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("centroid", Vector(), nullable=True),
        sa.Column("scaled_centroid", Vector(), nullable=True),
        sa.Column("medoid_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.ForeignKeyConstraint(
            ["clustering_id"],
            ["clusterings.id"],
            name=op.f("fk_clusters_clustering_id_clusterings"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["medoid_id"], ["key_frames.id"], name=op.f("fk_clusters_medoid_id_key_frames"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clusters")),
        sa.UniqueConstraint("clustering_id", "label", name=op.f("uq_clusters_clustering_id_label")),
    )
    op.create_index("ix_clusters_medoid_id", "clusters", ["medoid_id"], unique=False)
    op.create_table(
        "embeddings",
        sa.Column("key_frame_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("vector", Vector(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_frame_id"], ["key_frames.id"], name=op.f("fk_embeddings_key_frame_id_key_frames"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_embeddings_model_models")),
        sa.PrimaryKeyConstraint("key_frame_id", "model", name=op.f("pk_embeddings")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts_allowed", sa.Integer(), server_default="3", nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_kind", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("source_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("video_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("chunk", sa.Integer(), nullable=True),
        sa.Column("clustering_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("query_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(state = 'failed') <= (error IS NOT NULL)", name=op.f("ck_tasks_reason")),
        sa.CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name=op.f("ck_tasks_lease")),
        sa.CheckConstraint(
            "CASE queue WHEN 'keyframes' THEN source_id IS NOT NULL AND job_id IS NOT NULL WHEN 'embedding' THEN num_nonnulls(job_id, video_id, model, chunk) = 4 WHEN 'clustering' THEN clustering_id IS NOT NULL AND job_id IS NOT NULL ELSE query_id IS NOT NULL AND model IS NOT NULL END",
            name=op.f("ck_tasks_subject"),
        ),
        sa.CheckConstraint("queue IN ('keyframes', 'embedding', 'query', 'clustering')", name=op.f("ck_tasks_queue")),
        sa.CheckConstraint("stage IN ('keyframes', 'embedding', 'clustering')", name=op.f("ck_tasks_stage")),
        sa.CheckConstraint("state IN ('queued', 'running') OR finished_at IS NOT NULL", name=op.f("ck_tasks_finished")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_tasks_state")
        ),
        sa.ForeignKeyConstraint(
            ["clustering_id"], ["clusterings.id"], name=op.f("fk_tasks_clustering_id_clusterings"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_tasks_job_id_jobs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["query_id"], ["queries.id"], name=op.f("fk_tasks_query_id_queries"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_tasks_source_id_sources"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_tasks_video_id_videos"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index(
        "ix_tasks_lease_until", "tasks", ["lease_until"], unique=False, postgresql_where=sa.text("state = 'running'")
    )
    op.create_index("ix_tasks_of_job", "tasks", ["job_id", "queue", "state"], unique=False)
    op.create_index(
        "ix_tasks_of_model",
        "tasks",
        ["queue", "model", "run_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_tasks_open",
        "tasks",
        ["job_id", "queue", "model"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_index(
        "ix_tasks_sent_at", "tasks", ["queue", "sent_at"], unique=False, postgresql_where=sa.text("sent_at IS NOT NULL")
    )
    op.create_index(
        "ix_tasks_unclaimed",
        "tasks",
        ["queue", "sent_at"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND sent_at IS NOT NULL"),
    )
    op.create_index("ix_tasks_video_id", "tasks", ["video_id"], unique=False)
    op.create_index(
        "ix_tasks_waiting",
        "tasks",
        ["queue", "job_id", "run_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND sent_at IS NULL"),
    )
    op.create_index(
        "uq_tasks_clustering",
        "tasks",
        ["clustering_id"],
        unique=True,
        postgresql_where=sa.text("clustering_id IS NOT NULL"),
    )
    op.create_index(
        "uq_tasks_embedding",
        "tasks",
        ["job_id", "video_id", "model", "chunk"],
        unique=True,
        postgresql_where=sa.text("queue = 'embedding'"),
    )
    op.create_index(
        "uq_tasks_keyframes", "tasks", ["source_id"], unique=True, postgresql_where=sa.text("source_id IS NOT NULL")
    )
    op.create_index(
        "uq_tasks_query", "tasks", ["query_id"], unique=True, postgresql_where=sa.text("query_id IS NOT NULL")
    )
    # The project of everybody who has not been given another one (tables.DEFAULT_PROJECT_ID).
    op.execute("INSERT INTO projects (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'default')")
