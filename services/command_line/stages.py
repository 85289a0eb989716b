"""Each stage by itself, on files, with no server running: key frames, embeddings, clusters."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from services.command_line.options import Folder, NameValue, NClusters, given, json_option
from services.command_line.output import bars, print_json, remarks, results, say, show, table
from shared import catalog
from shared.errors import ErrorKind, PermanentError
from shared.settings import load_settings
from shared.wording import clock, count, percent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from services.clustering.clusterer import Clustering, ClusteringSettings
    from services.clustering.sweep import Evidence
    from services.keyframes.extraction import Extraction

#: Names of the pictures that an earlier run may have left in the folder.
PICTURES = "[0-9]" * 7 + ".jpg"

existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
new_file = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command()
@click.argument("file", type=existing_file)
@click.option(
    "--out",
    type=Folder(),
    help="Folder for the pictures; those of an earlier run are replaced.  [default: FILE's name with -key-frames]",
)
@click.option("--strategy", help=f"How key frames are chosen.  [default: {catalog.DEFAULT_STRATEGY}]")
@click.option(
    "--set", "parameters", type=NameValue(), multiple=True, help="A parameter of the strategy, or picture_px."
)
@click.option(
    "--scores",
    type=new_file,
    help="Also write, as CSV, what was measured at every frame and how it was judged: why a cut was found or not.",
)
@json_option
def keyframes(
    file: Path,
    out: Path | None,
    strategy: str | None,
    parameters: Sequence[tuple[str, Any]],
    scores: Path | None,
    as_json: bool,
) -> None:
    """Write the key frames of a video FILE as JPEG pictures."""
    settings = catalog.strategy_settings({**dict(parameters), **given(strategy=strategy)})
    if scores and not scores.parent.is_dir():
        raise click.UsageError(f"There is no folder {scores.parent} to write {scores.name} into.")
    extraction, files = _extract(file, out or Path(f"{file.stem}-key-frames"), settings, scores)
    for note in extraction.facts.notes:
        say(f"Note: {note}")
    if as_json:
        print_json(_extraction_json(extraction, files))
        return
    rows = table("frame", "second", "shot", "file", right=("frame", "second", "shot"))
    for key_frame, path in zip(extraction.key_frames, files, strict=True):
        rows.add_row(str(key_frame.frame_index), clock(key_frame.time_s), str(key_frame.shot_index), str(path))
    results().print(rows)
    say(
        f"{count(len(files), 'key frame')} of {count(extraction.frames, 'frame')} "
        f"in {count(len(extraction.shots), 'shot')}, {clock(extraction.duration_s)}; "
        f"reduction {percent(extraction.reduction)}"
    )


def _extract(file: Path, out: Path, settings: dict[str, Any], scores: Path | None) -> tuple[Extraction, list[Path]]:
    """Extract in the helper process; the pictures appear in `out`, and `scores`, when all of them are there."""
    from services.keyframes.cell.decoder import Decoder
    from services.keyframes.extraction import scores_file

    strategy, asked_px = settings.pop("strategy"), settings.pop("picture_px")
    picture_px = None if asked_px == catalog.AS_DECODED else asked_px
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".reelmap-", dir=out.parent) as folder, Decoder() as decoder:
        with remarks().status(Text(f"Reading {file.name}")) as status:

            def say_how_many() -> None:
                written = len(list(Path(folder).glob(PICTURES)))
                status.update(Text(f"Reading {file.name}: {written} key frames"))

            extraction = decoder.extract(
                file,
                folder,
                strategy,
                settings,
                check=say_how_many,
                picture_px=picture_px,
                with_scores=scores is not None,
            )
        if scores:
            shutil.move(scores_file(Path(folder)), scores)
        out.mkdir(exist_ok=True)
        for old in out.glob(PICTURES):
            old.unlink()
        return extraction, [key_frame.file.replace(out / key_frame.file.name) for key_frame in extraction.key_frames]


def _extraction_json(extraction: Extraction, files: Sequence[Path]) -> dict[str, Any]:
    return {
        "frames": extraction.frames,
        "duration_s": extraction.duration_s,
        "shots": [asdict(shot) for shot in extraction.shots],
        "key_frames": [
            {
                "frame_index": key_frame.frame_index,
                "time_s": key_frame.time_s,
                "shot_index": key_frame.shot_index,
                "file": str(path),
            }
            for key_frame, path in zip(extraction.key_frames, files, strict=True)
        ],
        "reduction": extraction.reduction,
    }


@click.command()
@click.argument("pictures", type=existing_file, nargs=-1, required=True)
@click.option("--model", "model_name", required=True, help="See `reelmap models`.")
@click.option("-o", "--out", type=new_file, required=True, help="Where the vectors go, as a NumPy file (.npy).")
@json_option
def embed(pictures: Sequence[Path], model_name: str, out: Path, as_json: bool) -> None:
    """Embed PICTURES (JPEG, PNG or WebP): row i of the file is the vector of picture i."""
    import numpy as np

    from services.embedding.embedder import embed_all
    from services.embedding.loading import load_embedder
    from services.embedding.pictures import read_picture

    settings = load_settings()
    model = catalog.known("model", model_name, catalog.models(settings.own_models))
    if not out.parent.is_dir():
        raise click.UsageError(f"There is no folder {out.parent} to write {out.name} into.")
    console = remarks()
    with console.status(f"Loading {model_name}"):
        embedder = load_embedder(model, settings.weights_dir, hub=settings.hub, device=settings.device)
    with bars(console) as progress:
        X = embed_all(
            embedder,
            (
                _naming(path, lambda path=path: read_picture(path.read_bytes()))  # type: ignore[misc]
                for path in progress.track(pictures, description="Embedding")
            ),
        )
    with out.open("wb") as file:
        np.save(file, X)
    if as_json:
        print_json({"file": str(out), "shape": list(X.shape), "model": model_name, "fingerprint": embedder.fingerprint})
    else:
        show(f"{out}: {X.shape[0]} vectors of {X.shape[1]} numbers by {model_name}")


def _naming(path: Path, read: Callable[[], Any]) -> Any:
    """The picture, with the file named in the error when it is none."""
    try:
        return read()
    except PermanentError as error:
        raise PermanentError(error.kind, f"{path}: {error.message}") from None


@click.command()
@click.argument("vectors", type=existing_file, metavar="X.npy")
@click.option("--algorithm", help=f"Any unknown name lists them.  [default: {catalog.DEFAULT_ALGORITHM}]")
@click.option("--n-clusters", type=NClusters(), help="How many clusters.  [default: one for 8 vectors, at most 100]")
@click.option("--seed", type=click.IntRange(min=0), help="The same seed gives the same labels.  [default: 0]")
@click.option("--scaling", type=click.Choice(list(catalog.SCALINGS)), help="What is done to the vectors before.")
@click.option("--set", "parameters", type=NameValue(), multiple=True, help="A parameter of the algorithm.")
@click.option("--sweep", is_flag=True, help="Try a range of numbers of clusters and show what each would give.")
@json_option
def cluster(vectors: Path, parameters: Sequence[tuple[str, Any]], sweep: bool, as_json: bool, **settings: Any) -> None:
    """Cluster the rows of a NumPy file."""
    from services.clustering import clusterer

    chosen = catalog.clustering_settings({**dict(parameters), **given(**settings)})
    wanted = _clustering_settings(dict(chosen))
    X = _read_vectors(vectors)
    with remarks().status(f"Clustering {len(X)} vectors"):
        if sweep:
            evidence = clusterer.sweep(X, wanted)
        else:
            clustering = clusterer.cluster(X, wanted)
    if sweep:
        _show_evidence(evidence, chosen, as_json)
    elif as_json:
        print_json(_clustering_json(clustering, chosen))
    else:
        _show_clustering(clustering)


def _clustering_settings(settings: dict[str, Any]) -> ClusteringSettings:
    from services.clustering.clusterer import ClusteringSettings

    common = {name: settings.pop(name) for name in catalog.COMMON_CLUSTERING}
    return ClusteringSettings(**common, parameters=settings)


def _read_vectors(path: Path) -> NDArray[np.generic]:
    import numpy as np

    try:
        X = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise PermanentError(
            ErrorKind.BAD_VECTORS, f"{path} is not a NumPy file (.npy) of numbers; `reelmap embed` writes such files"
        ) from None
    if not isinstance(X, np.ndarray) or X.ndim != 2 or X.dtype.kind not in "fiu" or not X.shape[1]:
        what = f"{X.dtype} of shape {X.shape}" if isinstance(X, np.ndarray) else "an archive of arrays"
        raise PermanentError(
            ErrorKind.BAD_VECTORS, f"{path} holds {what}; rows of numbers are needed, as `reelmap embed` writes them"
        )
    return X


def _clustering_json(clustering: Clustering, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        **settings,
        "labels": clustering.labels.tolist(),
        "n_clusters_asked": clustering.n_clusters_asked,
        "n_clusters_used": clustering.n_clusters_used,
        "sizes": [one.size for one in clustering.clusters],
        "medoids": [one.medoid_index for one in clustering.clusters],
        "noise": clustering.noise,
        "inertia": clustering.inertia,
        "silhouette": clustering.silhouette,
        "evidence": [asdict(row) for row in clustering.evidence],
        "notes": list(clustering.notes),
    }


def _show_clustering(clustering: Clustering) -> None:
    rows = table("label", "size", "share", "medoid (row)", right=("label", "size", "share", "medoid (row)"))
    for one in clustering.clusters:
        rows.add_row(str(one.label), str(one.size), percent(one.share), str(one.medoid_index))
    results().print(rows)
    show(
        f"{clustering.n_clusters_used} clusters, {clustering.noise} vectors in none; inertia {clustering.inertia:.6g}, "
        f"silhouette {_score(clustering.silhouette)}"
    )
    for note in clustering.notes:
        show(note)


def _show_evidence(evidence: Sequence[Evidence], settings: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({**settings, "evidence": [asdict(row) for row in evidence]})
        return
    rows = table("clusters", "silhouette", "inertia", right=("clusters", "silhouette", "inertia"))
    for row in evidence:
        rows.add_row(str(row.n_clusters), _score(row.silhouette), f"{row.inertia:.6g}")
    results().print(rows)


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
