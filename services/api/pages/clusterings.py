"""Pages of results: a clustering as a gallery, and one cluster in full."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from services.api.context import current_project_id, transaction
from services.api.pages.charts import silhouette_chart
from services.api.problems import parse
from services.api.queries import clusterings, clusters, jobs
from services.api.schemas import Clustering, Paging
from shared.tasks import TaskState

blueprint = Blueprint("clustering_pages", __name__)

CLUSTERS_A_PAGE, KEY_FRAMES_A_PAGE, VERSIONS_SHOWN = 60, 120, 20


@blueprint.get("/clusterings/<id:clustering_id>")
def show_clustering(clustering_id: str) -> str:
    """The clusters, the largest first, each by its medoid and the key frames nearest its centroid."""
    cursor = parse(Paging, request.args.to_dict()).cursor
    project_id = current_project_id()
    with transaction() as connection:
        clustering = clusterings.get_clustering(connection, project_id, clustering_id)
        job = jobs.get_job(connection, project_id, clustering.job_id)
        others = clusterings.list_clusterings(connection, project_id, clustering.job_id, limit=VERSIONS_SHOWN)
        page = clusters.list_clusters(
            connection, project_id, clustering_id, limit=CLUSTERS_A_PAGE, cursor=cursor, order="size"
        )
    is_open = clustering.state in (TaskState.QUEUED, TaskState.RUNNING)
    return render_template(
        "clustering.html",
        clustering=clustering,
        asked=_asked(clustering),
        job=job,
        others=others.items,
        clusters=page,
        cursor=cursor,
        chart=silhouette_chart(clustering.evidence or []),
        open=is_open,
        poll=[clustering.links["self"]] if is_open else [],
        refresh=request.full_path.rstrip("?"),
    )


def _asked(clustering: Clustering) -> str:
    """What was asked for, where it says more than what was used."""
    asked = clustering.n_clusters_asked
    if asked is None or asked == clustering.n_clusters_used:
        return ""
    return "auto" if asked == "auto" else f"{asked} asked for"


@blueprint.get("/clusters/<id:cluster_id>")
def show_cluster(cluster_id: str) -> str:
    """Every key frame of a cluster, nearest the centroid first."""
    cursor = parse(Paging, request.args.to_dict()).cursor
    project_id = current_project_id()
    with transaction() as connection:
        cluster = clusters.get_cluster(connection, project_id, cluster_id)
        clustering = clusterings.get_clustering(connection, project_id, cluster.clustering_id)
        job = jobs.get_job(connection, project_id, clustering.job_id)
        page = clusters.list_key_frames(connection, project_id, cluster_id, limit=KEY_FRAMES_A_PAGE, cursor=cursor)
    return render_template(
        "cluster.html", cluster=cluster, clustering=clustering, job=job, key_frames=page, cursor=cursor
    )
