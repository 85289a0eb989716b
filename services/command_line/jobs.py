"""Jobs from the command line: submit, follow, and what else can be done to them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import IO, Any

import click

from services.client import FINAL_STATES, ApiError, Client, Json
from services.command_line.inputs import (
    Inputs,
    Name,
    describe_bad,
    describe_skipped,
    find_inputs,
    read_list,
    upload_files,
)
from services.command_line.options import NameValue, NClusters, connect, given, json_option, server_option
from services.command_line.output import local_time, print_json, remarks, results, say, short_id, show, table
from services.command_line.progress import one_line, show_progress
from shared.wording import count, percent
from shared.wording import state as in_words

#: How a job ended -> the exit code of whoever followed it.
EXIT_CODES = {"failed": 1, "cancelled": 1, "partly_failed": 3}

job_argument = click.argument("job_id", metavar="JOB")


@click.command()
@click.argument("videos", nargs=-1, metavar="[URL|FILE|FOLDER]...")
@click.option(
    "-f", "--file", "lists", type=click.File("rb"), multiple=True, help="A list, one video a line; - reads a pipe."
)
@click.option("--skip-bad", is_flag=True, help="Leave out what cannot be submitted, instead of submitting nothing.")
@click.option("--name", help="What to call the job.")
@click.option("--model", "models", multiple=True, help="An embedding model; may be given several times.")
@click.option("--algorithm", help="The clustering algorithm.")
@click.option("--n-clusters", type=NClusters(), help="How many clusters.")
@click.option("--scaling", help="What is done to the vectors before they are clustered.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the clustering.")
@click.option("--strategy", help="How key frames are chosen.")
@click.option("--set", "parameters", type=NameValue(), multiple=True, help="A parameter of the strategy.")
@click.option("--expand", is_flag=True, help="Playlists and channels become their videos, each a source of its own.")
@click.option("--wait", is_flag=True, help="Stay until the job is over; its exit code says how it ended.")
@server_option
@json_option
def submit(
    videos: Sequence[str],
    lists: Sequence[IO[bytes]],
    skip_bad: bool,
    name: str | None,
    models: Sequence[str],
    strategy: str | None,
    parameters: Sequence[tuple[str, Any]],
    expand: bool,
    wait: bool,
    server: str,
    as_json: bool,
    **clustering: Any,
) -> None:
    """Submit videos as a job. Files, and the videos in folders, are uploaded first."""
    inputs = find_inputs([*map(Name, videos), *(line for file in lists for line in read_list(file.read(), file.name))])
    if inputs.skipped:
        say(describe_skipped(inputs.skipped))
    _require_videos(inputs, skip_bad)
    client = connect(server)
    settings = {
        "name": name,
        "models": list(models),
        "key_frames": {**dict(parameters), **given(strategy=strategy)},
        "clustering": given(**clustering),
        "expand": expand or None,
    }
    # Before files are uploaded, which may take hours.
    inputs = _checked(client, inputs, settings, skip_bad)
    if inputs.bad:
        say(f"Left out: {describe_bad(inputs.bad)}.")
    job = client.submit(upload_files(inputs.videos, client, remarks()), **settings)
    repeated = job.get("repeated_urls") or []
    if repeated:
        say(f"{count(len(repeated), 'repeated URL counts', 'repeated URLs count')} once, such as {repeated[0]}")
    if wait:
        if not as_json:
            say(f"Job {job['id']}, page {page_of(client, job)}")
        finish(client, job["id"], as_json)
    elif as_json:
        print_json(job)
    else:
        show(f"Job {job['id']}: {count(job['sources'], 'source')}\nPage: {page_of(client, job)}")
        say(f"Follow it with: reelmap status {job['id']} --watch")


def _require_videos(inputs: Inputs, skip_bad: bool) -> None:
    if inputs.bad and not skip_bad:
        raise click.UsageError(f"{describe_bad(inputs.bad)}. Mend them, or leave them out with --skip-bad.")
    if not inputs.videos:
        raise click.UsageError("There is no video to submit: name URLs, files or folders, or a list with -f.")


def _checked(client: Client, inputs: Inputs, settings: Json, skip_bad: bool) -> Inputs:
    """What the server would take; raises for settings that it would refuse."""
    while True:
        urls = [v.target if isinstance(v.target, str) else f"upload:{uuid.uuid4()}" for v in inputs.videos]
        try:
            client.check(urls, **settings)
            return inputs
        except ApiError as error:
            bad = [
                (inputs.videos[int(field.removeprefix("videos."))], message)
                for field, message in error.fields
                if field.removeprefix("videos.").isdigit()
            ]
            if not bad:
                raise
            inputs = inputs.without(bad)
            _require_videos(inputs, skip_bad)


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@click.option("--state", help="Only jobs in this state.")
@server_option
@json_option
def jobs(limit: int, state: str | None, server: str, as_json: bool) -> None:
    """List the jobs, newest first."""
    found = list(connect(server).jobs(limit, state))
    if as_json:
        print_json({"jobs": found})
        return
    rows = table("job", "state", "sources", "key frames", "submitted", "name", right=("sources", "key frames"))
    for job in found:
        rows.add_row(
            short_id(job["id"]),
            in_words(job["state"]),
            str(job["sources"]),
            str(job["key_frames_count"]),
            local_time(job["created_at"]),
            job["name"] or "",
        )
    results().print(rows)


@click.command()
@job_argument
@click.option("--watch", is_flag=True, help="Go on until the job is over; its exit code says how it ended.")
@server_option
@json_option
def status(job_id: str, watch: bool, server: str, as_json: bool) -> None:
    """Show how far a job is and which of its sources failed."""
    client = connect(server)
    if watch:
        finish(client, job_id, as_json)
    else:
        show_job(client, client.job(job_id), as_json)


@click.command()
@job_argument
@click.option("--state", help="Only sources in this state, such as failed.")
@click.option("--attempts", is_flag=True, help="Show every attempt at them too: by whom, when, and how it ended.")
@server_option
@json_option
def sources(job_id: str, state: str | None, attempts: bool, server: str, as_json: bool) -> None:
    """List a job's sources, each with its outcome."""
    found = connect(server).sources(job_id, state)
    if as_json:
        print_json({"sources": list(found)})
    else:
        listed = list(found)
        show_sources(listed)
        if attempts:
            show_attempts(listed)


@click.command()
@job_argument
@click.argument("source_ids", metavar="[SOURCE]...", nargs=-1)
@click.option("--failed", is_flag=True, help="Every source that failed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_option
@json_option
def remove(job_id: str, source_ids: Sequence[str], failed: bool, yes: bool, server: str, as_json: bool) -> None:
    """Take sources out of a job, with the key frames that only they brought. `reelmap sources` shows their ids."""
    if failed == bool(source_ids):
        raise click.UsageError("Name the sources to remove, or say --failed.")
    if not yes:
        what = "every source that failed" if failed else count(len(source_ids), "source")
        click.confirm(f"Remove {what} from job {job_id} for good?", abort=True, err=True)
    client = connect(server)
    if failed:
        removed = client.remove_failed_sources(job_id)
    else:
        for source_id in source_ids:
            client.remove_source(job_id, source_id)
        removed = len(source_ids)
    if as_json:
        print_json({"removed": removed})
    else:
        show(f"{count(removed, 'source')} removed")


@click.command()
@job_argument
@click.argument("source_id", metavar="SOURCE")
@click.argument("url")
@click.option("--expand", is_flag=True, help="A playlist or channel becomes its videos.")
@server_option
@json_option
def correct(job_id: str, source_id: str, url: str, expand: bool, server: str, as_json: bool) -> None:
    """Put another URL in the place of a source, which is read anew."""
    _show_short(connect(server).correct_source(job_id, source_id, url, expand=expand), as_json)


@click.command()
@job_argument
@server_option
@json_option
def cancel(job_id: str, server: str, as_json: bool) -> None:
    """Cancel a job; what it has found stays, and `reelmap retry` takes it up again."""
    _show_short(connect(server).cancel(job_id), as_json)


@click.command()
@job_argument
@server_option
@json_option
def retry(job_id: str, server: str, as_json: bool) -> None:
    """Try again what failed or was cancelled, and only that."""
    _show_short(connect(server).retry(job_id), as_json)


@click.command()
@job_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_option
@json_option
def delete(job_id: str, yes: bool, server: str, as_json: bool) -> None:
    """Delete a job with its clusters, and the videos and key frames that no other job has."""
    if not yes:
        click.confirm(f"Delete job {job_id} for good?", abort=True, err=True)
    connect(server).delete(job_id)
    if as_json:
        print_json({"deleted": job_id})
    else:
        show(f"Job {job_id} deleted")


def finish(client: Client, job_id: str, as_json: bool) -> None:
    """Follow a job to its end, show it, and exit with 1 when it failed or was cancelled, with 3 when partly failed."""
    job = show_progress(client.follow(job_id), remarks())
    show_job(client, job, as_json)
    if code := EXIT_CODES.get(job["state"]):
        raise SystemExit(code)


def show_job(client: Client, job: Json, as_json: bool) -> None:
    """Print a job and, for people, the sources that failed."""
    if as_json:
        print_json(job)
        return
    for line in summary(client, job):
        show(line)
    for failure in job["failures"]:
        what = f"{failure['stage']} with {failure['model']}" if failure["model"] else failure["stage"]
        show(f"Failed: {what}, {count(failure['tasks'], 'task')}: {failure['message']}")
    failed = list(client.sources(job["id"], "failed")) if job["progress"]["keyframes"]["failed"] else []
    if failed:
        show_sources(failed)


def summary(client: Client, job: Json) -> Iterable[str]:
    """A job in a few lines."""
    yield f"Job {job['id']}" + (f" “{job['name']}”" if job["name"] else "")
    yield one_line(job)
    if job["frames"]:
        yield (
            f"{count(job['sources'], 'source')}, {count(job['videos'], 'video')}, "
            f"{count(job['frames'], 'frame')} read, {count(job['key_frames_count'], 'key frame')}, "
            f"reduction {percent(job['reduction'])}"
        )
    if job["eta_s"] is not None and job["state"] not in FINAL_STATES:
        yield f"About {count(max(1, round(job['eta_s'])), 'second')} to go"
    yield f"Page: {page_of(client, job)}"


def show_sources(found: Iterable[Json]) -> None:
    """A table of sources and what came of them."""
    rows = table("id", "source", "state", "tries", "key frames", "reason", right=("tries", "key frames"))
    for source in found:
        error = source["error"]
        key_frames = "" if source["key_frames"] is None else str(source["key_frames"])
        name = source["title"] or source["url"]
        reason = error["message"] if error else ""
        if source["expanded_into"] is not None:
            reason = f"expanded into {count(source['expanded_into'], 'source')}"
        rows.add_row(
            short_id(source["id"]), name, in_words(source["state"]), str(source["attempts"]), key_frames, reason
        )
    results().print(rows)


def show_attempts(listed: Iterable[Json]) -> None:
    """A table of every try at the sources: who had it, for how long, and how it ended."""
    rows = table("source", "attempt", "by", "started", "took", "outcome", "reason", right=("attempt", "took"))
    for source in listed:
        for one in source["history"]:
            rows.add_row(
                source["title"] or source["url"],
                str(one["attempt"]),
                one["owner"] or "",
                local_time(one["started_at"]) if one["started_at"] else "",
                _took(one),
                in_words(one["outcome"] or "running"),
                one["error"]["message"] if one["error"] else "",
            )
    results().print(rows)


def _took(attempt: Json) -> str:
    if not (attempt["started_at"] and attempt["ended_at"]):
        return ""
    started_at, ended_at = (datetime.fromisoformat(attempt[name]) for name in ("started_at", "ended_at"))
    return f"{(ended_at - started_at).total_seconds():.1f} s"


def page_of(client: Client, job: Json) -> str:
    """The address of the job's page."""
    page = str(job["links"]["page"])
    return page if "://" in page else client.server + page


def _show_short(job: Json, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        show(f"Job {job['id']}: {one_line(job)}")
