"""A folder is there as long as the work in it, and what a killed process left is removed, but nothing else."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from shared.work_folders import LOCK, UNLOCKED_FOR_S, gc, work_folder


def test_it_is_there_and_then_it_is_not(tmp_path):
    with work_folder(tmp_path / "new") as folder:
        (folder / "video").write_bytes(b"x")
        assert folder.parent == tmp_path / "new"
    assert list((tmp_path / "new").iterdir()) == []


def test_a_sweep_leaves_what_is_in_use(tmp_path):
    with work_folder(tmp_path) as folder:
        gc(tmp_path)
        assert folder.is_dir()


def test_a_sweep_removes_what_a_killed_process_left(tmp_path):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_work_until_killed, args=(tmp_path,))
    process.start()
    while not list(tmp_path.glob("work-*/video")):
        time.sleep(0.02)
    gc(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1, "it is alive, whatever its number is called here"
    process.kill()
    process.join()
    gc(tmp_path)
    assert list(tmp_path.iterdir()) == []


def _work_until_killed(parent: Path) -> None:
    with work_folder(parent) as folder:
        (folder / "video").write_bytes(b"x")
        time.sleep(60)


@pytest.mark.parametrize("name", ["new-abc", "work-abc"])
def test_a_folder_that_is_just_being_made_or_removed_is_left(tmp_path, name):
    made = tmp_path / name
    made.mkdir()
    gc(tmp_path)
    assert made.is_dir()
    long_ago = time.time() - UNLOCKED_FOR_S - 1
    os.utime(made, (long_ago, long_ago))
    gc(tmp_path)
    assert not made.exists()


def test_folders_and_sweeps_do_not_disturb_each_other(tmp_path):
    """Many at once: whoever has a folder keeps it."""
    lost = []

    def work() -> None:
        for _ in range(200):
            gc(tmp_path)
            with work_folder(tmp_path) as folder:
                if not (folder / LOCK).exists():
                    lost.append(folder)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert list(tmp_path.iterdir()) == []


def test_other_things_are_left(tmp_path):
    (tmp_path / "other").mkdir()
    gc(tmp_path)
    gc(tmp_path / "not there")
    assert (tmp_path / "other").is_dir()
