"""What templates may ask about the API's answers: names and addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import Flask, request

from services.api import paths
from services.api.pages import field_words, forms
from services.api.schemas.answers import Cluster, Clustering, Job, KeyFrame, Membership, Source, SourceOfKeyFrame
from shared import wording
from shared.pictures import SMALL_PICTURE_PX


def job_name(job: Job) -> str:
    """What a job is called, also when nobody named it."""
    return job.name or f"Job of {job.created_at:%-d %b %Y, %H:%M}"


def clustering_name(clustering: Clustering | Membership) -> str:
    """What a clustering is called, also when nobody named it."""
    return clustering.name or clustering.title


def cluster_name(cluster: Cluster | Membership) -> str:
    """Cluster 7, or Noise."""
    return f"Cluster {cluster.label}" if cluster.label >= 0 else "Noise"


def videos_in_all(cluster: Cluster) -> int:
    """How many videos the clustering has, of which the cluster touches `cluster.videos`."""
    return round(cluster.videos / cluster.video_share) if cluster.video_share else 0


def source_name(source: Source | SourceOfKeyFrame) -> str:
    """What a source is called."""
    return wording.source_name(source.title, source.url)


def video_name(frame: KeyFrame) -> str:
    """What the video of a key frame is called: as its first source is."""
    return source_name(frame.sources[0]) if frame.sources else "a video"


def page(frame: KeyFrame, origin: Mapping[str, str]) -> str:
    """The address of a key frame's page. origin: `job` and `model` that somebody comes from; what is empty is none."""
    return paths.key_frame_page(frame.id, origin.get("job"), origin.get("model"))


def small_width_px(frame: KeyFrame) -> int:
    """How wide a key frame's small picture is: its longest side is `SMALL_PICTURE_PX` at most."""
    return max(1, round(frame.width_px * min(1, SMALL_PICTURE_PX / max(frame.width_px, frame.height_px))))


def video_page(frame: KeyFrame, job_id: str | None) -> str:
    """The address of the page of a key frame's video, as that job read it."""
    return paths.video_page(frame.video_id, job_id)


def shown_before() -> int:
    """How many items of a list the pages before this one have shown, as the link to this one says."""
    given = request.args.get("after", "")
    return int(given) if "cursor" in request.args and re.fullmatch("[0-9]{1,9}", given) else 0


def register(app: Flask) -> None:
    """Give the templates of `app` these filters and those of `wording`."""
    own = (
        job_name,
        clustering_name,
        cluster_name,
        videos_in_all,
        source_name,
        video_name,
        page,
        video_page,
        small_width_px,
        field_words.label,
        field_words.sentence,
        forms.words_to_choose,
    )
    plain = (
        wording.clock,
        wording.span,
        wording.ago,
        wording.stamp,
        wording.number,
        wording.count,
        wording.percent,
        wording.measure,
        wording.size,
        wording.state,
        wording.is_web,
    )
    for function in (*plain, *own):
        app.add_template_filter(function)
    app.add_template_global(shown_before)
