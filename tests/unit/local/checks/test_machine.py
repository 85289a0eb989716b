"""What is said of this machine."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from services.keyframes.cell import sandbox
from services.local.checks import machine
from services.local.checks.check import Subject, Verdict
from shared import catalog, landlock
from shared.settings import Settings


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    for name in ("blobs", "work", "weights"):
        (tmp_path / name).mkdir()
    settings = Settings(
        own_models={},
        hub=False,
        blobs_folder=tmp_path / "blobs",
        work_folder=tmp_path / "work",
        weights_dir=tmp_path / "weights",
    )
    return Subject(settings, None, None, None, {})


def changed(subject: Subject, **settings: object) -> Subject:
    return replace(subject, settings=replace(subject.settings, **settings))  # type: ignore[arg-type]


def test_the_packages_that_are_installed_fit(subject):
    verdict, says = machine.packages(subject)
    assert (verdict, says.endswith("its packages fit.")) == (Verdict.GOOD, True)


def test_packages_that_do_not_fit_are_named(subject, monkeypatch):
    def version(name: str) -> str:
        if name == "alembic":
            raise importlib.metadata.PackageNotFoundError
        return "5.6.1" if name == "celery" else importlib.metadata.version(name)

    monkeypatch.setattr(machine, "version", version)
    verdict, says = machine.packages(subject)
    assert verdict is Verdict.BAD
    assert says == (
        "alembic is missing; celery 5.6.1 is installed where >=5.7 is needed. Install what requirements/lock.txt names "
        "(`make env`)."
    )


def test_the_tools_for_video_sites_run(subject):
    verdict, says = machine.video_sites(subject)
    assert verdict is Verdict.GOOD
    assert "yt-dlp 2" in says and "deno 2" in says


@pytest.mark.parametrize("program", ["#!/bin/sh\nexit 3\n", None])
def test_a_tool_that_does_not_run_is_said(subject, monkeypatch, tmp_path, program):
    import deno

    path = tmp_path / "deno"
    if program:
        path.write_text(program)
        path.chmod(0o755)
    monkeypatch.setattr(deno, "find_deno_bin", lambda: str(path))
    verdict, says = machine.video_sites(subject)
    assert verdict is Verdict.BAD
    assert "deno does not run" in says and says.endswith("Install the package deno again.")


@pytest.mark.skipif(sys.platform != "linux", reason="the walls need Linux")
@pytest.mark.parametrize(
    ("version", "is_there", "is_not"),
    [(0, ["no Landlock: a decoder", "no Landlock for TCP"], []), (3, ["no Landlock for TCP"], ["a decoder"])],
)
def test_walls_that_a_kernel_lacks_are_named(subject, monkeypatch, version, is_there, is_not):
    monkeypatch.setattr(landlock, "version", lambda: version)
    monkeypatch.setattr(sandbox, "_seccomp", object)
    verdict, says = machine.walls(subject)
    assert verdict is Verdict.BAD
    assert [words in says for words in [*is_there, *is_not]] == [True] * len(is_there) + [False] * len(is_not)
    assert says.endswith("run the keyframes worker on another machine.")


def test_a_machine_with_all_walls_is_good(subject, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(landlock, "version", lambda: 7)
    monkeypatch.setattr(sandbox, "_seccomp", object)
    assert machine.walls(subject)[0] is Verdict.GOOD


def test_a_system_without_any_of_it_says_so_and_nothing_can_be_mended(subject, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    verdict, says = machine.walls(subject)
    assert (verdict, "the other walls need Linux" in says) == (Verdict.UNKNOWN, True)


def test_armed_fail_points_are_said(subject):
    assert machine.failpoints(subject)[0] is Verdict.GOOD
    verdict, says = machine.failpoints(changed(subject, failpoints_folder=Path("/tmp/points")))
    assert verdict is Verdict.BAD
    assert says.startswith("A file in /tmp/points can make any process of Reelmap die or hang")
    assert "Unset REELMAP_FAILPOINTS_FOLDER" in says


def test_folders_that_can_be_used(subject):
    assert machine.folders(subject)[0] is Verdict.GOOD
    assert machine.folders(changed(subject, work_folder=Path("/not/made/yet")))[0] is Verdict.GOOD
    assert machine.folders(changed(subject, blobs_folder=None))[0] is Verdict.UNKNOWN
    in_a_bucket = machine.folders(changed(subject, blobs_folder=None, blobs_bucket="pictures"))
    assert in_a_bucket == (Verdict.GOOD, "Pictures are not in a folder, but in the bucket pictures.")
    assert machine.disks(changed(subject, blobs_folder=None, blobs_bucket="pictures"))[0] is Verdict.GOOD


def test_a_folder_that_is_missing_is_named_with_its_setting(subject, tmp_path):
    gone = changed(subject, blobs_folder=tmp_path / "gone", weights_dir=tmp_path / "none")
    verdict, says = machine.folders(gone)
    assert verdict is Verdict.BAD
    assert f"{tmp_path}/gone (REELMAP_BLOBS_FOLDER) is not a folder; make it, or name another" in says
    assert f"{tmp_path}/none (REELMAP_WEIGHTS_DIR) is not a folder" in says


def test_a_folder_that_cannot_be_written_to_is_named(subject):
    verdict, says = machine.folders(changed(subject, work_folder=Path("/proc")))  # nobody may write there
    assert verdict is Verdict.BAD
    assert says.startswith("/proc (REELMAP_WORK_FOLDER) cannot be written to (")


def test_a_disk_without_room_is_said(subject, monkeypatch):
    assert machine.disks(changed(subject, max_video_bytes=1))[0] is Verdict.GOOD
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(500_000_000))
    verdict, says = machine.disks(subject)
    assert verdict is Verdict.BAD
    assert "blobs has 0.5 GB free for pictures and uploads, 1.0 GB are needed" in says
    assert "work has 0.5 GB free for downloads, 4.3 GB are needed" in says


def test_missing_weights_of_the_usual_models_are_said_with_what_stands_in_for_them(subject):
    verdict, says = machine.weights(subject)
    assert verdict is Verdict.GOOD
    assert "A job that names no model takes efficientnet_lite0." in says
    for name in catalog.DEFAULT_MODELS:
        assert says.count(f"The weights of {name} are missing: ") == 1
    assert str(subject.settings.weights_dir) in says


def test_where_no_default_model_loads_the_way_out_is_said(subject, monkeypatch):
    monkeypatch.setattr(catalog, "STAND_INS", {name: () for name in catalog.DEFAULT_MODELS})
    verdict, says = machine.weights(subject)
    assert verdict is Verdict.BAD
    assert says.startswith(
        "No model that a job takes by default can be used: The weights of efficientnet_b0 are missing"
    )
    assert says.endswith("--model hog_color.")


def test_where_no_network_can_run_no_weights_are_asked_for(subject, monkeypatch):
    for name in ("torchvision", "torchvision.models", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)
    verdict, says = machine.weights(subject)
    assert verdict is Verdict.UNKNOWN
    assert "is not installed; only machines that run the embedding worker need weights" in says


def test_weights_that_are_there_are_good(subject):
    known = catalog.models({})
    for name in catalog.DEFAULT_MODELS:
        (subject.settings.weights_dir / known[name].weights.names[0]).touch()
    verdict, says = machine.weights(subject)
    assert verdict is Verdict.GOOD
    assert "hog_color" in says
