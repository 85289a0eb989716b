"""Pages of results: a clustering as a gallery, what can be done to it, and one cluster in full."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from services.api import paths
from services.api.commands import clusterings as commands
from services.api.context import current_project_id, transaction, write
from services.api.pages.charts import silhouette_chart
from services.api.problems import NotFound, Refusal, parse
from services.api.queries import clusterings, clusters, jobs
from services.api.schemas.answers import Clustering
from services.api.schemas.requests import ClusteringChange, Paging
from shared.tasks import OPEN_TASK_STATES

blueprint = Blueprint("clustering_pages", __name__)

CLUSTERS_A_PAGE, KEY_FRAMES_A_PAGE, VERSIONS_SHOWN = 60, 120, 50


@blueprint.get("/clusterings/<id:clustering_id>")
def show_clustering(clustering_id: str) -> str:
    """The clusters, the largest first, each by its medoid and the key frames nearest its centroid."""
    return _clustering_page(clustering_id)


@blueprint.post("/clusterings/<id:clustering_id>/name")
def name_clustering(clustering_id: str) -> Response | tuple[str, int]:
    """Call the clustering what the form says."""
    try:
        asked = parse(ClusteringChange, {"name": request.form.get("name", "")})
        with transaction() as connection:
            commands.rename(connection, current_project_id(), clustering_id, asked.name)
    except NotFound:
        raise
    except Refusal as refusal:
        return _clustering_page(clustering_id, refusal), refusal.status
    return redirect(paths.clustering_page(clustering_id), 303)


@blueprint.post("/clusterings/<id:clustering_id>/delete")
def delete_clustering(clustering_id: str) -> Response | tuple[str, int]:
    """Delete the clustering; the form that leads here has said what that means."""
    try:
        job_id = write(lambda connection: commands.delete(connection, current_project_id(), clustering_id))
    except NotFound:
        raise
    except Refusal as refusal:
        return _clustering_page(clustering_id, refusal), refusal.status
    return redirect(f"{paths.job_page(job_id)}#clusterings", 303)


def _clustering_page(clustering_id: str, problem: Refusal | None = None) -> str:
    cursor = parse(Paging, request.args.to_dict()).cursor
    project_id = current_project_id()
    with transaction() as connection:
        clustering = clusterings.get_clustering(connection, project_id, clustering_id)
        job = jobs.get_job(connection, project_id, clustering.job_id)
        others = clusterings.list_clusterings(connection, project_id, clustering.job_id, limit=VERSIONS_SHOWN)
        page = clusters.list_clusters(
            connection, project_id, clustering_id, limit=CLUSTERS_A_PAGE, cursor=cursor, order="size"
        )
    is_open = clustering.state in OPEN_TASK_STATES
    return render_template(
        "clustering.html",
        clustering=clustering,
        asked=_asked(clustering),
        job=job,
        others=[each for each in others.items if each.id == clustering_id or each.name or not each.superseded],
        problem=problem,
        clusters=page,
        cursor=cursor,
        chart=silhouette_chart(clustering.evidence or []),
        open=is_open,
        poll=[clustering.links["self"]] if is_open else [],
        refresh=request.full_path.rstrip("?") if request.method == "GET" else clustering.links["page"],
    )


def _asked(clustering: Clustering) -> str:
    """What was asked for, where it says more than what was used."""
    asked = clustering.n_clusters_asked
    if asked is None or asked == clustering.n_clusters_used:
        return ""
    return "their number found by trying several" if asked == "auto" else f"{asked} clusters asked for"


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
