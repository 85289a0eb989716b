"""Addresses of the API's resources and of their pages: the one place that spells them in answers."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

API = "/api/v1"


def job(job_id: str) -> str:
    return f"{API}/jobs/{job_id}"


def job_page(job_id: str) -> str:
    return f"/jobs/{job_id}"


def job_sources(job_id: str) -> str:
    return f"{job(job_id)}/sources"


def job_clusterings(job_id: str) -> str:
    return f"{job(job_id)}/clusterings"


def job_key_frames(job_id: str) -> str:
    return f"{job(job_id)}/key-frames"


def job_key_frames_page(job_id: str) -> str:
    return f"{job_page(job_id)}/key-frames"


def video(video_id: str, job_id: str | None = None) -> str:
    """job_id: whose key frames of the video are meant; jobs may have chosen them by different settings."""
    return f"{API}/videos/{video_id}" + _query(job=job_id)


def video_key_frames(video_id: str, job_id: str | None = None) -> str:
    return f"{API}/videos/{video_id}/key-frames" + _query(job=job_id)


def video_page(video_id: str, job_id: str | None = None) -> str:
    return f"/videos/{video_id}" + _query(job=job_id)


def _query(**given: str | None) -> str:
    query = urlencode({name: value for name, value in given.items() if value})
    return f"?{query}" if query else ""


def clustering(clustering_id: str) -> str:
    return f"{API}/clusterings/{clustering_id}"


def clustering_page(clustering_id: str) -> str:
    return f"/clusterings/{clustering_id}"


def clustering_clusters(clustering_id: str) -> str:
    return f"{clustering(clustering_id)}/clusters"


def cluster(cluster_id: str) -> str:
    return f"{API}/clusters/{cluster_id}"


def cluster_page(cluster_id: str) -> str:
    return f"/clusters/{cluster_id}"


def cluster_key_frames(cluster_id: str) -> str:
    return f"{cluster(cluster_id)}/key-frames"


def key_frame(key_frame_id: str) -> str:
    return f"{API}/key-frames/{key_frame_id}"


def key_frame_page(key_frame_id: str, job_id: str | None = None, model: str | None = None) -> str:
    """job_id, model: where somebody comes from, so that what is alike is looked for there."""
    return f"/key-frames/{key_frame_id}" + _query(job=job_id, model=model)


def key_frame_image(key_frame_id: str) -> str:
    return f"{key_frame(key_frame_id)}/image"


def key_frame_small_image(key_frame_id: str) -> str:
    return f"{key_frame_image(key_frame_id)}?size=small"


def sign_in_page(next_page: str | None = None) -> str:
    """next_page: where to go on, when that is not the first page."""
    return "/sign-in" if next_page in (None, "/") else f"/sign-in?{urlencode({'next': next_page}, safe='/')}"


def export(export_id: str) -> str:
    return f"{API}/exports/{export_id}"


def export_file(export_id: str) -> str:
    return f"{export(export_id)}/file"


def export_page(export_id: str) -> str:
    return f"/exports/{export_id}"


def search(query_id: str, job_ids: Sequence[str] | None, limit: int) -> str:
    given = {"jobs": ",".join(job_ids)} if job_ids else {}
    return f"{API}/searches/{query_id}?{urlencode({**given, 'limit': limit}, safe=',')}"


def search_picture(query_id: str) -> str:
    return f"{API}/searches/{query_id}/picture"


def search_page(query_id: str, job_id: str | None = None) -> str:
    return f"/searches/{query_id}" + _query(job=job_id)


def alike_page(key_frame_id: str, job_id: str | None = None, model: str | None = None) -> str:
    return "/search" + _query(key_frame=key_frame_id, job=job_id, model=model)
