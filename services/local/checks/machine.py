"""This machine: packages, tools, folders, disks, weights."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from services.keyframes.cell.sandbox import missing_walls
from services.local.checks.check import Check, Found, Need, Subject, bad, good, unknown
from services.local.usable_models import choose_models
from shared import catalog
from shared.egress.tcp_fence import missing_fence

TOOL_TIMEOUT_S = 20.0
#: Room for rows and pictures, below which things begin to fail at any moment.
LEAST_FREE_BYTES = 10**9
GB = 1e9


def packages(_: Subject) -> Found:
    """Whether every package that is installed is of a version that Reelmap works with, and the base ones are there."""
    try:
        wanted = [Requirement(line) for line in requires("reelmap") or []]
    except PackageNotFoundError:
        return unknown("Reelmap runs from its source and is not installed, so nothing says which versions it needs.")
    problems = []
    for requirement in wanted:
        is_base = requirement.marker is None
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            if is_base:
                problems.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            problems.append(f"{requirement.name} {found} is installed where {requirement.specifier} is needed")
    if problems:
        return bad(f"{'; '.join(problems)}. Install what requirements/lock.txt names (`make env`).")
    return good(f"Reelmap {version('reelmap')} on Python {platform.python_version()}; its packages fit.")


def video_sites(_: Subject) -> Found:
    """Whether videos of sites can be fetched: yt-dlp, and deno, which runs the sites' JavaScript."""
    try:
        import deno  # type: ignore[import-untyped]

        downloader = version("yt-dlp")
        program = deno.find_deno_bin()
    except (ImportError, PackageNotFoundError):
        return unknown("yt-dlp and deno are not installed; only machines that run the keyframes worker need them.")
    except OSError as error:
        return bad(f"deno's program is missing ({error}). Install the package deno again.")
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return bad(f"deno does not run ({error}), so YouTube cannot be read. Install the package deno again.")
    return good(
        f"yt-dlp {downloader} and {' '.join(said.split()[:2])}. Sites change: update yt-dlp when one stops working."
    )


def folders(subject: Subject) -> Found:
    """Whether the folders are there, and those that are written to can be."""
    settings = subject.settings
    problems = []
    for variable, path, is_written in (
        ("REELMAP_BLOBS_FOLDER", settings.blobs_folder, True),
        ("REELMAP_WORK_FOLDER", settings.work_folder, True),
        ("REELMAP_WEIGHTS_DIR", settings.weights_dir, False),
    ):
        if path is None:
            continue
        name = str(path) if subject.folder and path.is_relative_to(subject.folder) else f"{path} ({variable})"
        if not path.is_dir():
            # The work folder is made by the first worker.
            if variable != "REELMAP_WORK_FOLDER":
                problems.append(f"{name} is not a folder; make it, or name another")
        elif is_written and (why := _why_not_writable(path)):
            problems.append(f"{name} cannot be written to ({why}); give it to the user that runs Reelmap")
    if problems:
        return bad(f"{'; '.join(problems)}.")
    if settings.blobs_place:
        return good(f"Pictures are not in a folder, but in the bucket {settings.blobs_bucket}.")
    if settings.blobs_folder is None:
        return unknown("Neither REELMAP_BLOBS_FOLDER nor REELMAP_BLOBS_BUCKET is set.")
    return good(f"{settings.blobs_folder} can be written to.")


def _why_not_writable(folder: Path) -> str | None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror
    return None


def disks(subject: Subject) -> Found:
    """Whether there is room for what is kept, and for the downloads on their way through."""
    said, problems = [], []
    for what, path, needed_bytes in _room_needed(subject):
        free_bytes = shutil.disk_usage(_existing(path)).free
        said.append(f"{free_bytes / GB:.1f} GB for {what}")
        if free_bytes < needed_bytes:
            problems.append(
                f"{path} has {free_bytes / GB:.1f} GB free for {what}, {needed_bytes / GB:.1f} GB are needed"
            )
    if problems:
        return bad(f"{'; '.join(problems)}. Make room, or name another folder.")
    return good(f"Free: {', '.join(said)}.")


def _room_needed(subject: Subject) -> Iterator[tuple[str, Path, int]]:
    settings = subject.settings
    if subject.folder:
        yield "the data", subject.folder, LEAST_FREE_BYTES
    elif settings.blobs_folder:
        yield "pictures and uploads", settings.blobs_folder, LEAST_FREE_BYTES
    yield "downloads", settings.scratch_folder, settings.max_video_bytes * settings.keyframes_processes


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(above for above in (path, *path.absolute().parents) if above.exists())


def walls(_: Subject) -> Found:
    """Whether this machine can lock up the processes that read strangers' videos and pages."""
    missing = missing_walls()
    if sys.platform != "linux":
        return unknown(" ".join(missing))
    missing += filter(None, [missing_fence()])
    if missing:
        return bad(" ".join([*missing, "Mend it, or run the keyframes worker on another machine."]))
    return good("What reads videos and pages is locked up by the kernel.")


def failpoints(subject: Subject) -> Found:
    """Whether nothing is armed that makes processes die on purpose."""
    folder = subject.settings.failpoints_folder
    if folder:
        return bad(
            f"A file in {folder} can make any process of Reelmap die or hang, which is for tests of faults only. Unset "
            "REELMAP_FAILPOINTS_FOLDER and start Reelmap again."
        )
    return good("None is armed.")


def weights(subject: Subject) -> Found:
    """Whether the models that a job gets when it names none can be used."""
    for library in ("torchvision", "transformers"):
        if find_spec(library) is None:
            return unknown(f"{library} is not installed; only machines that run the embedding worker need weights.")
    settings = subject.settings
    known = catalog.models(settings.own_models)
    choice = choose_models(list(known.values()), settings.weights_dir, use_hub=settings.hub)
    chosen = catalog.default_models({name: name in choice.usable for name in known})
    why = " ".join(choice.left_out[name] for name in catalog.DEFAULT_MODELS if name in choice.left_out)
    if not chosen:
        return bad(
            f"No model that a job takes by default can be used: {why} Until then, name another: --model hog_color."
        )
    said = f"Usable: {', '.join(choice.usable)}. A job that names no model takes {', '.join(chosen)}."
    return good(f"{said} {why}".rstrip())


CHECKS = (
    Check("packages", packages),
    Check("video sites", video_sites),
    Check("walls", walls),
    Check("fail-points", failpoints, (Need.SETTINGS,)),
    Check("folders", folders, (Need.SETTINGS,)),
    Check("disks", disks, (Need.SETTINGS,)),
    Check("model weights", weights, (Need.SETTINGS,)),
)
