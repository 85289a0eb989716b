"""axe-core, which judges whether a page can be used by everybody: got by npm when tests run."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

VERSION = "4.14.1"
#: SHA-512 of the package, as npm writes it into lock files.
# pragma: allowlist nextline secret
INTEGRITY = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
PATIENCE_S = 60


class AxeMissing(Exception):
    """It is not here and cannot be had. The message says why."""


def axe_source() -> str:
    """The script that defines `axe`. Raises `AxeMissing`."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelmap-tests"
    package = folder / f"axe-core-{VERSION}.tgz"
    if not _is_whole(package):
        _fetch(folder)
    if not _is_whole(package):
        raise AxeMissing(f"{package} is not the package that was asked for: its SHA-512 is another one")
    with tarfile.open(fileobj=io.BytesIO(package.read_bytes())) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script
        return script.read().decode()


def _is_whole(package: Path) -> bool:
    return package.is_file() and base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() == INTEGRITY


def _fetch(folder: Path) -> None:
    npm = shutil.which("npm")
    if not npm:
        raise AxeMissing("there is no npm to get axe-core with")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            [npm, "pack", f"axe-core@{VERSION}", "--pack-destination", str(folder)],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise AxeMissing(f"npm did not get axe-core within {PATIENCE_S} s") from None
    except subprocess.CalledProcessError as error:
        raise AxeMissing(f"npm could not get axe-core: {error.stderr[-300:]}") from None
