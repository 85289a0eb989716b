"""Fail-points do nothing by themselves, and once what a file in the armed folder orders."""

from __future__ import annotations

import errno
import json
import multiprocessing
import signal
import threading
from pathlib import Path

import pytest

from shared import failpoints
from shared.errors import ErrorKind, ProcessSpoiled


@pytest.fixture
def folder(tmp_path):
    failpoints.arm(tmp_path)
    yield tmp_path
    failpoints.arm(None)


def order(folder: Path, point: str, **what) -> None:
    (folder / point).write_text(json.dumps(what))


def test_nothing_is_looked_at_unless_it_was_asked_for(tmp_path):
    order(tmp_path, "here", do="fail")
    failpoints.reach("here")


def test_being_armed_is_said_and_being_disarmed_is_not(tmp_path, caplog):
    failpoints.arm(tmp_path)
    failpoints.arm(None)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert f"a file in {tmp_path} can make this process die or hang; unset REELMAP_FAILPOINTS_FOLDER" in record.message


def test_a_point_without_a_file_is_passed(folder):
    failpoints.reach("here")


def test_an_order_is_carried_out_once(folder):
    order(folder, "here", do="fail")
    with pytest.raises(RuntimeError, match="fail-point"):
        failpoints.reach("here")
    failpoints.reach("here")


def test_or_always(folder):
    order(folder, "here", do="fail", always=True)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            failpoints.reach("here")


def test_or_only_for_one_thing(folder):
    order(folder, "here", do="fail", only="poison")
    failpoints.reach("here", {"url": "http://host/harmless"})
    with pytest.raises(RuntimeError):
        failpoints.reach("here", {"url": "http://host/poison"})


@pytest.mark.parametrize(("what", "number"), [("disk_full", errno.ENOSPC), ("io_error", errno.EIO)])
def test_errors_of_the_disk(folder, what, number):
    order(folder, "here", do=what)
    with pytest.raises(OSError) as caught:
        failpoints.reach("here")
    assert caught.value.errno == number


def test_a_lost_device(folder):
    order(folder, "here", do="device_lost")
    with pytest.raises(ProcessSpoiled) as caught:
        failpoints.reach("here")
    assert caught.value.kind is ErrorKind.DEVICE_LOST


def test_an_order_that_no_point_knows_is_a_mistake(folder):
    order(folder, "here", do="dance")
    with pytest.raises(ValueError, match="dance"):
        failpoints.reach("here")


def test_holding_ends_when_it_is_told_to(folder):
    order(folder, "here", do="hold")
    thread = threading.Thread(target=failpoints.reach, args=("here",))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    (folder / "here.go").touch()
    thread.join(5)
    assert not thread.is_alive()


def test_killing_kills_the_process(folder):
    order(folder, "here", do="kill")
    process = multiprocessing.get_context("spawn").Process(target=_arm_and_reach, args=(folder,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


def _arm_and_reach(folder: Path) -> None:
    failpoints.arm(folder)
    failpoints.reach("here")
