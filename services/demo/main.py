"""`make demo`: a whole Reelmap in a folder of its own takes one job from videos to a page of clusters, and ends."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import numpy as np

from services.api.openness import by_address
from services.client import Client, Json
from services.clustering.quality import agreement
from services.command_line.explore import show_clustering
from services.command_line.failures import as_click_errors
from services.command_line.inputs import describe_bad, describe_skipped, find_inputs, upload_files
from services.command_line.jobs import show_sources
from services.command_line.options import NClusters, given
from services.command_line.output import remarks, say, show
from services.command_line.progress import show_progress
from services.demo.corpus import PHOTOS, Corpus, load_corpus, make_corpus, truth_at
from services.demo.page import ModelResult, write_page
from services.local.lock import FolderLock
from services.local.supervisor import Supervisor
from services.local.up import listen, make_supervisor, page_url, port_of, wait_until_ready
from services.local.usable_models import choose_models
from shared import catalog
from shared.errors import ErrorKind, PermanentError
from shared.settings import SettingError, Settings, load_settings
from shared.wording import percent

#: In every folder that a demo has made, so that none is wiped that holds something else.
MARK = ".reelmap-demo"
HOST = "127.0.0.1"


@click.command()
@click.argument("videos", nargs=-1, metavar="[URL|FILE|FOLDER]...")
@click.option("--models", help="Names with spaces or commas between.  [default: those of a job that names none]")
@click.option("--n-clusters", type=NClusters(), help="How many clusters.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="Where everything goes; a demo that was there before is wiped.",
)
def main(videos: Sequence[str], models: str | None, n_clusters: int | str | None, folder: Path) -> None:
    """Show what Reelmap does, on VIDEOS or else on a small corpus whose truth is known."""
    with as_click_errors():
        run(videos, models, n_clusters, folder)


def run(videos: Sequence[str], models: str | None, n_clusters: int | str | None, folder: Path) -> None:
    """Run the demo. Raises PermanentError when it did not end with clusters."""
    started_at = time.monotonic()
    settings = by_address(replace(load_settings(), api_host=HOST))
    if settings.access != "open":
        raise SettingError(
            "The demo asks for no key and ends with the page, and the settings ask for keys. For the length of the "
            "demo, unset REELMAP_ACCESS and REELMAP_TRUSTED_PROXIES"
        )
    inputs = find_inputs(videos)
    if inputs.skipped:
        say(describe_skipped(inputs.skipped))
    chosen = usable_models(models, settings)
    wipe(folder)

    corpus: Corpus = {}
    if inputs.bad:
        raise click.UsageError(f"{describe_bad(inputs.bad)}.")
    named = inputs.videos
    if not videos:
        say("Making a corpus of short clips over the photographs of scikit-image and scikit-learn …")
        named = find_inputs([str(path) for path in make_corpus(folder / "corpus")]).videos
        corpus = load_corpus(folder / "corpus")
        n_clusters = n_clusters or len(PHOTOS)
    if not named:
        raise PermanentError(ErrorKind.NO_VECTORS, f"There is no video in {', '.join(videos)}.")

    say("Starting Postgres, Redis, the workers, the dispatcher and the API …")
    with (
        listen(HOST, 0) as listener,
        make_supervisor(settings, listener, folder / "data", say=say, durable=False) as supervisor,
    ):
        supervisor.start()
        if not wait_until_ready(page_url(HOST, port_of(listener)), supervisor.watch):
            raise PermanentError(
                ErrorKind.STORE_UNAVAILABLE, f"The API did not become ready; see {folder / 'data' / 'logs' / 'api.log'}"
            )
        client = Client(page_url(HOST, port_of(listener)))
        job = client.submit(
            upload_files(named, client, remarks()),
            name="" if videos else "The demo's corpus",
            models=list(chosen),
            clustering=given(n_clusters=n_clusters),
        )
        job = show_progress(_watched(client.follow(job["id"]), supervisor), remarks())
        failed = list(client.sources(job["id"], "failed"))
        found = model_results(client, job, corpus)
        page = write_page(folder, job, found, failed, client.picture)
    report(job, found, failed)
    if not found:
        raise PermanentError(
            ErrorKind.NO_VECTORS, f"The job ended {job['state']} without a clustering; logs: {folder / 'data' / 'logs'}"
        )
    say(f"Took {time.monotonic() - started_at:.0f} s. Everything is stopped again.")
    show(f"Look at it: {page.absolute().as_uri()}")


def usable_models(names: str | None, settings: Settings) -> Sequence[str]:
    """The models that a person named; else those of a job that names none, saying which are left out.

    Raises PermanentError when none of them can be used.
    """
    known = catalog.models(settings.own_models)
    if names is not None:
        return [catalog.known("model", name, known).name for name in re.split(r"[,\s]+", names.strip())]
    choice = choose_models(list(known.values()), settings.weights_dir, use_hub=settings.hub)
    left_out = [choice.left_out[name] for name in catalog.DEFAULT_MODELS if name in choice.left_out]
    chosen = catalog.default_models({name: name in choice.usable for name in known})
    if not chosen:
        raise PermanentError(ErrorKind.WEIGHTS_MISSING, f"{' '.join(left_out)} Name a model with --models hog_color.")
    for sentence in left_out:
        say(sentence)
    say(f"Models: {', '.join(chosen)}")
    return chosen


def wipe(folder: Path) -> None:
    """Make the folder empty. Raises PermanentError when another demo runs in it, or it was not made by a demo."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise PermanentError(
                ErrorKind.STORE_UNAVAILABLE, f"{folder} holds something else than a demo; name another with --folder."
            )
        if (folder / "data").exists():
            FolderLock(folder / "data", "another demo").close()
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def model_results(client: Client, job: Json, corpus: Corpus) -> list[ModelResult]:
    """Each model's newest clustering that succeeded, in the order of the job's models."""
    newest: dict[str, Json] = {}
    for clustering in client.clusterings(job["id"]):
        if clustering["state"] == "succeeded":
            newest.setdefault(clustering["model"], clustering)
    return [_model_result(client, newest[model], corpus) for model in job["models"] if model in newest]


def _model_result(client: Client, clustering: Json, corpus: Corpus) -> ModelResult:
    clusters = list(client.clusters(clustering["id"]))
    if not corpus:
        return ModelResult(clustering, clusters, {}, None)
    truths = {
        cluster["label"]: [
            truth_at(corpus, key_frame["sources"][0]["title"], key_frame["time_s"])
            for key_frame in client.cluster_key_frames(cluster["id"])
        ]
        for cluster in clusters
    }
    labels = np.repeat(list(truths), [len(shown) for shown in truths.values()])
    truth = [photo for shown in truths.values() for photo in shown]
    names = {label: Counter(shown).most_common(1)[0][0] for label, shown in truths.items()}
    return ModelResult(clustering, clusters, names, agreement(labels, truth))


def report(job: Json, found: Sequence[ModelResult], failed: Sequence[Json]) -> None:
    """Print what was found, and what could not be read."""
    for result in found:
        show("")
        show_clustering(result.clustering, result.clusters, result.names)
        if result.agreement is not None:
            show(
                f"Against the truth ({len(PHOTOS)} photographs): purity {result.agreement.purity:.2f}, "
                f"NMI {result.agreement.nmi:.2f}, adjusted Rand index {result.agreement.ari:.2f}"
            )
    if failed:
        show(f"\nNot read: {len(failed)} of {job['sources']} sources")
        show_sources(failed)
    show(
        f"\nThe job {job['state'].replace('_', ' ')}: {job['videos']} videos, {job['frames']} frames read, "
        f"{job['key_frames_count']} key frames, reduction {percent(job['reduction'])}"
    )


def _watched(job_versions: Iterator[Json], supervisor: Supervisor) -> Iterator[Json]:
    """The same, while the supervisor sees to it that everything still runs."""
    for job in job_versions:
        supervisor.watch()
        yield job


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    # An orderly end of everything that was started, also when it is asked for from outside.
    signal.signal(signal.SIGTERM, _end)
    main()
