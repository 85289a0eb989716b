"""What a job found: clusters, similar key frames; and the models there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from services.client import ApiError, Client, Json
from services.command_line.options import connect, json_option, server_option
from services.command_line.output import clock, percent, print_json, remarks, results, show, table

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
        f"{clustering['model']}, {clustering['settings']['algorithm']}: {clustering['state']}, "
        f"{clustering['n_clusters_used'] or 0} clusters of {clustering['key_frames'] or 0} key frames{quality}",
        style="bold",
    )
    console.print(f"Clustering {clustering['id']}")
    if clustering["error"]:
        show(clustering["error"]["message"])
    numbers = ("label", "size", "videos", "of videos", "mean distance")
    rows = table(*numbers, *(["mostly"] if names else []), "for example", right=numbers)
    for cluster in found:
        rows.add_row(
            str(cluster["label"]),
            str(cluster["size"]),
            str(cluster["videos"]),
            percent(cluster["video_share"]),
            f"{cluster['mean_distance']:.3f}",
            *([names[cluster["label"]]] if names else []),
            place_of(cluster["medoid"]),
        )
    console.print(rows)
    for note in clustering["notes"]:
        show(note)


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
    with remarks().status("Searching"):
        answer = connect(server).search(jobs, picture=picture, key_frame_id=key_frame_id, model=model, limit=limit)
    if as_json:
        print_json(answer)
        return
    rows = table("key frame", "distance", "where", right=("distance",))
    for result in answer["results"]:
        rows.add_row(result["id"], f"{result['distance']:.4f}", place_of(result))
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
    rows = table("model", "numbers", "usable", "what", right=("numbers",))
    usable = {True: "yes", False: "no", None: "not tried yet"}
    for model in found:
        what = model["title"] if not model["problem"] else f"{model['title']}. {model['problem']}"
        rows.add_row(model["name"], str(model["dimension"] or ""), usable[model["available"]], what)
    results().print(rows)


def place_of(key_frame: Json) -> str:
    """Where a key frame is: the video's title or address, and the second."""
    source = key_frame["sources"][0] if key_frame["sources"] else None
    name = (source["title"] or source["url"]) if source else key_frame["video_id"]
    return f"{name} at {clock(key_frame['time_s'])}"
