"""Imports that must not exist: heavy libraries where they are not wanted, and anything that happens on import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TORCH = {"torch", "torchvision", "transformers"}
VIDEO = {"av", "cv2", "yt_dlp"}
STATISTICS = {"sklearn", "scipy", "skimage"}
SERVERS = {"celery", "flask", "sqlalchemy", "psycopg2", "redis"}
#: Imported by `open_blobs` where blobs are in a bucket.
OBJECT_STORE = {"boto3", "botocore", "s3transfer"}

#: Module -> libraries that importing it must not import.
MUST_NOT_IMPORT = {
    # The images of the API and the dispatcher hold none of these, not even NumPy.
    "shared.catalog": TORCH | VIDEO | STATISTICS | SERVERS | {"numpy"},
    "shared.pipeline": TORCH | VIDEO | STATISTICS | SERVERS | {"numpy"},
    # The liveness probe runs every few seconds beside each process.
    "shared.liveness": TORCH | VIDEO | STATISTICS | SERVERS | {"numpy", "alembic"},
    "shared.schema": TORCH | VIDEO | STATISTICS | {"celery", "flask"},
    "shared.startup": TORCH | VIDEO | STATISTICS | {"celery", "flask"} | OBJECT_STORE,
    "shared.tasks": TORCH | VIDEO | STATISTICS,
    "shared.celery_app": TORCH | VIDEO | STATISTICS,
    "services.api.server": TORCH | VIDEO | STATISTICS | {"numpy"} | OBJECT_STORE,
    "services.dispatcher.main": TORCH | VIDEO | STATISTICS | {"flask", "numpy"} | OBJECT_STORE,
    "services.keyframes.worker": TORCH | STATISTICS | {"flask"} | OBJECT_STORE,
    # In the parent of a prefork worker torch would be imported before the fork, and CUDA with it.
    "services.embedding.worker": TORCH | STATISTICS | {"flask", "av"} | OBJECT_STORE,
    "services.clustering.worker": TORCH | VIDEO | {"flask"} | OBJECT_STORE,
    # Pure modules can be used alone, in a notebook or on a GPU machine with nothing else installed.
    "services.keyframes.fetching.fetch": TORCH | VIDEO | STATISTICS | SERVERS,
    "services.keyframes.extraction": TORCH | STATISTICS | SERVERS,
    "services.embedding.embedder": TORCH | VIDEO | STATISTICS | SERVERS,
    "services.clustering.clusterer": TORCH | VIDEO | STATISTICS | SERVERS,
}


def loaded_after(statements: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after the statements."""
    program = f"{statements}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("module", MUST_NOT_IMPORT)
def test_importing_stays_light(module):
    assert loaded_after(f"import {module}") & MUST_NOT_IMPORT[module] == set()


def test_listing_every_model_algorithm_and_strategy_needs_no_heavy_library():
    loaded = loaded_after(
        "from shared import catalog\ncatalog.models({}); catalog.algorithms(); catalog.strategies()\n"
        "catalog.clustering_settings({}); catalog.strategy_settings({})"
    )
    assert loaded & (TORCH | VIDEO | STATISTICS | SERVERS | {"numpy"}) == set()


def test_the_layers_hold():
    """The contracts of pyproject.toml: services never import each other, shared never imports services."""
    run = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout


def test_only_the_settings_read_the_environment():
    readers = [
        path.relative_to(ROOT).as_posix()
        for folder in ("shared", "services")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "os.environ" in (text := path.read_text()) or "os.getenv" in text
    ]
    # services/local and the helper processes hand an environment on, and the command line sets in its own what OpenMP
    # reads; they read no setting from it.
    allowed = {"shared/settings.py", "services/cli.py"}
    assert [path for path in readers if path not in allowed and not path.startswith("services/local/")] == []


def test_only_one_package_writes_state():
    writers = [
        path.relative_to(ROOT).as_posix()
        for folder in ("shared", "services")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if any(words in path.read_text() for words in ("SET state ", "UPDATE tasks", "tasks.update(", "INTO tasks"))
    ]
    assert writers, "the words that writers are found by have become others"
    assert [path for path in writers if not path.startswith("shared/tasks/")] == []
