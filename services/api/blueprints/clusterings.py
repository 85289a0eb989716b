"""Clusterings and their clusters."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response, current_app
from sqlalchemy import Connection

from services.api import paths, replies
from services.api.commands import clusterings as commands
from services.api.commands.idempotency import Reply
from services.api.context import current_project_id, transaction, write
from services.api.queries import clusterings as queries
from services.api.queries import clusters as cluster_queries
from services.api.schemas.answers import Cluster, Clustering, ClusteringList, ClusterList, KeyFrameList
from services.api.schemas.requests import (
    ClusteringChange,
    ClusteringRequest,
    ClustersPaging,
    IdempotencyHeaders,
    Paging,
)
from shared.tables import clusterings

blueprint = APIBlueprint("clusterings", __name__, url_prefix=paths.API, tag="Clusterings")


@blueprint.post("/jobs/<id:job_id>/clusterings")
@blueprint.input(IdempotencyHeaders, location="headers")
@blueprint.input(ClusteringRequest)
@blueprint.output(Clustering, 202)
def add_clustering(job_id: str, json_data: ClusteringRequest, headers_data: IdempotencyHeaders) -> Response:
    """Cluster a job's key frames again, at any time, with other settings

    When the same key frames have been clustered by the same settings, that clustering is the answer.
    """

    def act(connection: Connection) -> Reply:
        clustering_id = commands.ask_for(connection, current_project_id(), job_id, json_data)
        clustering = queries.get_clustering(connection, current_project_id(), clustering_id)
        return Reply(202, paths.clustering(clustering_id), clustering.model_dump(mode="json"))

    return replies.accept(act, headers_data.idempotency_key, clusterings)


@blueprint.get("/jobs/<id:job_id>/clusterings")
@blueprint.input(Paging, location="query")
@blueprint.output(ClusteringList)
def list_clusterings(job_id: str, query_data: Paging) -> ClusteringList:
    """List a job's clusterings, newest first"""
    with transaction() as connection:
        page = queries.list_clusterings(connection, current_project_id(), job_id, **dict(query_data))
    return ClusteringList(clusterings=page.items, next_cursor=page.next_cursor)


@blueprint.get("/clusterings/<id:clustering_id>")
@blueprint.output(Clustering)
def get_clustering(clustering_id: str) -> Clustering:
    """Show one clustering: settings, quality, sizes"""
    with transaction() as connection:
        return queries.get_clustering(connection, current_project_id(), clustering_id)


@blueprint.patch("/clusterings/<id:clustering_id>")
@blueprint.input(ClusteringChange)
@blueprint.output(Clustering)
def change_clustering(clustering_id: str, json_data: ClusteringChange) -> Clustering:
    """Name a clustering"""
    with transaction() as connection:
        commands.rename(connection, current_project_id(), clustering_id, json_data.name)
        return queries.get_clustering(connection, current_project_id(), clustering_id)


@blueprint.delete("/clusterings/<id:clustering_id>")
@blueprint.doc(responses=[409])
@blueprint.output({}, 204)
def delete_clustering(clustering_id: str) -> Response:
    """Delete a clustering; key frames and vectors stay

    One that a job at work makes, or would make again, cannot be deleted: cancel the job, or wait.
    """
    write(lambda connection: commands.delete(connection, current_project_id(), clustering_id))
    return current_app.response_class(status=204)


@blueprint.get("/clusterings/<id:clustering_id>/clusters")
@blueprint.input(ClustersPaging, location="query")
@blueprint.output(ClusterList)
def list_clusters(clustering_id: str, query_data: ClustersPaging) -> ClusterList:
    """List clusters, each with its medoid and the key frames nearest its centroid"""
    with transaction() as connection:
        page = cluster_queries.list_clusters(connection, current_project_id(), clustering_id, **dict(query_data))
    return ClusterList(clusters=page.items, next_cursor=page.next_cursor)


@blueprint.get("/clusters/<id:cluster_id>")
@blueprint.output(Cluster)
def get_cluster(cluster_id: str) -> Cluster:
    """Show one cluster"""
    with transaction() as connection:
        return cluster_queries.get_cluster(connection, current_project_id(), cluster_id)


@blueprint.get("/clusters/<id:cluster_id>/key-frames")
@blueprint.input(Paging, location="query")
@blueprint.output(KeyFrameList)
def list_key_frames(cluster_id: str, query_data: Paging) -> KeyFrameList:
    """List a cluster's key frames, nearest its centroid first"""
    with transaction() as connection:
        page = cluster_queries.list_key_frames(connection, current_project_id(), cluster_id, **dict(query_data))
    return KeyFrameList(key_frames=page.items, next_cursor=page.next_cursor)
