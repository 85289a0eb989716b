"""Folders that live as long as a piece of work, and are recognised and removed when its process was killed.

A lock that the kernel gives back says whether somebody still works in a folder. Unlike the number of a process, it
means the same in every container and on every machine that shares the disk.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX, PREFIX_OF_NEW = "work-", "new-"
LOCK = ".lock"

#: How long a folder may be there without its lock: while it is made, and while it is removed.
UNLOCKED_FOR_S = 60


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, removed at the end. Raises OSError when there is no room for one."""
    parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=PREFIX_OF_NEW, dir=parent))
    fd = os.open(new / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    folder = new.with_name(PREFIX + new.name.removeprefix(PREFIX_OF_NEW))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        new.rename(folder)  # locked already when others see it
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def gc(parent: Path) -> None:
    """Remove the folders of processes that ended without doing so."""
    for folder in abandoned(parent):
        shutil.rmtree(folder, ignore_errors=True)


def abandoned(parent: Path) -> Iterator[Path]:
    """The folders of processes that ended without removing them."""
    for folder in parent.iterdir() if parent.is_dir() else ():
        if folder.name.startswith((PREFIX, PREFIX_OF_NEW)) and _is_abandoned(folder):
            yield folder


def _is_abandoned(folder: Path) -> bool:
    try:
        if folder.name.startswith(PREFIX_OF_NEW) or not (folder / LOCK).exists():
            return time.time() - folder.stat().st_mtime >= UNLOCKED_FOR_S
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # removed meanwhile
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
