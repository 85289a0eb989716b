"""What a job found: clusterings, clusters, similar key frames; and the models there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from services.client import ApiError, Client, Json
from services.command_line.options import connect, json_option, server_option
from services.command_line.output import print_json, remarks, results, short_id, show, table
from shared.wording import clock, count, percent
from shared.wording import state as in_words

NOT_FOUND = 404


@click.command()
@click.argument("found_in", metavar="JOB|CLUSTERING")
@click.option("--model", help="Only the clusterings of this model's embeddings.")
@click.option("--limit", type=click.IntRange(min=1), help="How many clusters of each, the largest first.")
@server_option
@json_option
def clusters(found_in: str, model: str | None, limit: int | None, server: str, as_json: bool) -> None:
    """Show the clusters of a clustering, or of each model's newest clustering of a job."""
    client = connect(server)
    chosen = [one for one in _clusterings(client, found_in) if model in (None, one["model"])]
    if not chosen:
        raise ApiError(f"{found_in} has no clustering{f' of {model}' if model else ' yet'}.")
    documents = [{**one, "clusters": list(client.clusters(one["id"], limit))} for one in chosen]
    if as_json:
        print_json({"clusterings": documents})
        return
    for document in documents:
        show_clustering(document, document["clusters"])


@click.group()
def clusterings() -> None:
    """The clusterings of a job: list, name and delete them."""


@clusterings.command("list")
@click.argument("job_id", metavar="JOB")
@click.option("--older", is_flag=True, help="Also those that later rounds have made anew from more key frames.")
@server_option
@json_option
def list_clusterings(job_id: str, older: bool, server: str, as_json: bool) -> None:
    """List the clusterings of a job, newest first."""
    found = [one for one in connect(server).clusterings(job_id) if older or one["name"] or not one["superseded"]]
    if as_json:
        print_json({"clusterings": found})
        return
    rows = table("clustering", "state", "round", "key frames", "noise", "what", right=("round", "key frames", "noise"))
    for one in found:
        counts = ("" if one[count] is None else str(one[count]) for count in ("key_frames", "noise"))
        rows.add_row(one["id"], in_words(one["state"]), str(one["round"]), *counts, name_of(one))
    results().print(rows)


@clusterings.command("name")
@click.argument("clustering_id", metavar="CLUSTERING")
@click.argument("name")
@server_option
@json_option
def name_clustering(clustering_id: str, name: str, server: str, as_json: bool) -> None:
    """Call a clustering NAME; '' takes its name away."""
    named = connect(server).name_clustering(clustering_id, name)
    if as_json:
        print_json(named)
    else:
        show(f"Clustering {named['id']}: {name_of(named)}")


@clusterings.command("delete")
@click.argument("clustering_id", metavar="CLUSTERING")
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_option
@json_option
def delete_clustering(clustering_id: str, yes: bool, server: str, as_json: bool) -> None:
    """Delete a clustering; the key frames and their vectors stay."""
    client = connect(server)
    if not yes:
        click.confirm(f"Delete {name_of(client.clustering(clustering_id))} for good?", abort=True, err=True)
    client.delete_clustering(clustering_id)
    if as_json:
        print_json({"deleted": clustering_id})
    else:
        show(f"Clustering {clustering_id} deleted")


def name_of(clustering: Json) -> str:
    """What a clustering is called, and what it is."""
    return f"{clustering['name']}: {clustering['title']}" if clustering["name"] else str(clustering["title"])


def _clusterings(client: Client, found_in: str) -> list[Json]:
    """The clustering of that id, or each model's newest of the job of that id."""
    try:
        newest_first = list(client.clusterings(found_in))
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
    else:
        by_model: dict[str, Json] = {}
        for one in newest_first:
            by_model.setdefault(one["model"], one)
        return list(by_model.values())
    try:
        return [client.clustering(found_in)]
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        raise ApiError(f"There is no job and no clustering {found_in}.", NOT_FOUND) from None


def show_clustering(clustering: Json, found: Iterable[Json], names: Mapping[int, str] | None = None) -> None:
    """One clustering: a line of what it is, a table of its clusters, its notes.

    names: what the clusters mostly show, by label, where that is known.
    """
    console = results()
    quality = "" if clustering["silhouette"] is None else f", silhouette {clustering['silhouette']:.3f}"
    console.print(
        f"{name_of(clustering)} of {count(clustering['key_frames'] or 0, 'key frame')}: "
        f"{in_words(clustering['state'])}{quality}",
        style="bold",
    )
    console.print(f"Clustering {clustering['id']}")
    if clustering["error"]:
        show(clustering["error"]["message"])
    numbers = ("label", "size", "videos", "of videos", "mean distance")
    rows = table("id", *numbers, *(["mostly"] if names else []), "for example", right=numbers)
    for cluster in found:
        rows.add_row(
            short_id(cluster["id"]),
            str(cluster["label"]) if cluster["label"] >= 0 else "noise",
            str(cluster["size"]),
            str(cluster["videos"]),
            percent(cluster["video_share"]),
            "" if cluster["mean_distance"] is None else f"{cluster['mean_distance']:.3f}",
            *([names.get(cluster["label"], "")] if names else []),
            video_and_time(cluster["medoid"] or cluster["nearest"][0]),
        )
    console.print(rows)
    for note in clustering["notes"]:
        show(note)


@click.command()
@click.argument("found_in", metavar="JOB|VIDEO|CLUSTER")
@click.option("--limit", type=click.IntRange(min=1), help="How many.")
@server_option
@json_option
def frames(found_in: str, limit: int | None, server: str, as_json: bool) -> None:
    """List the key frames of a job or a video by time, or of a cluster, nearest its centroid first."""
    found = _key_frames(connect(server), found_in, limit)
    if as_json:
        print_json({"key_frames": found})
        return
    measured = any(key_frame.get("distance") is not None for key_frame in found)
    rows = table("key frame", *(["distance"] if measured else []), "where", right=("distance",))
    for key_frame in found:
        distance = [f"{key_frame['distance']:.3f}"] if measured else []
        rows.add_row(key_frame["id"], *distance, video_and_time(key_frame))
    results().print(rows)


def _key_frames(client: Client, found_in: str, limit: int | None) -> list[Json]:
    """Those of whatever has that id."""
    lists = (
        client.job_key_frames(found_in, limit),
        client.video_key_frames(found_in, limit=limit),
        client.cluster_key_frames(found_in, limit),
    )
    for key_frames in lists:
        try:
            return list(key_frames)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
    raise ApiError(f"There is no job, no video and no cluster {found_in}.", NOT_FOUND)


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option("--picture", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Search by this picture.")
@click.option("--key-frame", "key_frame_id", metavar="ID", help="Search by this key frame.")
@click.option("--model", help="Whose embeddings to compare.")
@click.option("--limit", type=click.IntRange(min=1), help="How many key frames.")
@server_option
@json_option
def search(
    jobs: Sequence[str],
    picture: Path | None,
    key_frame_id: str | None,
    model: str | None,
    limit: int | None,
    server: str,
    as_json: bool,
) -> None:
    """Find the key frames of one or several jobs that are most like a picture or a key frame."""
    if (picture is None) == (key_frame_id is None):
        raise click.UsageError("Give either --picture or --key-frame.")
    client = connect(server)
    with remarks().status("Searching"):
        ids = [client.job(job)["id"] for job in jobs]  # beginnings of ids, too
        answer = client.search(ids, picture=picture, key_frame_id=key_frame_id, model=model, limit=limit)
    if as_json:
        print_json(answer)
        return
    if not answer["results"]:
        # Whatever there is to search has something that is nearest.
        raise ApiError(
            f"There is nothing to search: no {'other ' if key_frame_id else ''}key frame of "
            f"{'these jobs' if len(jobs) > 1 else 'this job'} has a vector of {answer['model']}. `reelmap status` says "
            "how far a job is."
        )
    rows = table("key frame", "distance", "where", right=("distance",))
    for result in answer["results"]:
        rows.add_row(result["id"], f"{result['distance']:.4f}", video_and_time(result))
    results().print(rows)


@click.command()
@server_option
@json_option
def models(server: str, as_json: bool) -> None:
    """List the embedding models and whether they can be used."""
    found = connect(server).models()
    if as_json:
        print_json({"models": found})
        return
    rows = table("model", "dimension", "usable", "what", right=("dimension",))
    usable = {True: "yes", False: "no", None: "not tried yet"}
    for model in found:
        what = model["title"] if not model["problem"] else f"{model['title']}. {model['problem']}"
        rows.add_row(model["name"], str(model["dimension"] or ""), usable[model["available"]], what)
    results().print(rows)


def video_and_time(key_frame: Json) -> str:
    """Where a key frame is: the video's title or address, and the second."""
    source = key_frame["sources"][0] if key_frame["sources"] else None
    name = (source["title"] or source["url"]) if source else key_frame["video_id"]
    return f"{name} at {clock(key_frame['time_s'])}"
