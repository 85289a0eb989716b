"""The one shape of every stage, with real rows and small handlers."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest

from shared import tasks
from shared.errors import ErrorKind, PermanentError, ProcessSpoiled, TransientError
from shared.runner import CHECK_MARGIN_S, Handler, Runner


@pytest.fixture
def make_runner(database, tmp_path):
    def make(**changes) -> Runner:
        values = {
            "database": database,
            "work_folder": tmp_path / "work",
            "lease_s": 2.0,
            "heartbeat_s": 0.1,
            "backoff_s": 10.0,
            "stop_grace_s": 0.0,
        }
        return Runner(**{**values, **changes})

    return make


class Small(Handler):
    """Loads nothing but the claim itself, and saves nothing, where the test says no other."""

    def __init__(self, compute, *, deadline_s: float = 30, load=None, save=None, room: int = 0) -> None:
        self.deadline_s = deadline_s
        self._compute = compute
        self._load = load or (lambda connection, claim: claim)
        self._save = save or (lambda connection, claim, loaded, result: None)
        self._room = room

    def load(self, connection, claim):
        return self._load(connection, claim)

    def room(self, claim, loaded):
        return self._room

    def compute(self, items, work):
        return self._compute(items, work)

    def save(self, connection, claim, loaded, result):
        self._save(connection, claim, loaded, result)


def the_task(rows):
    return rows.all("SELECT state, attempt, error_kind, error FROM tasks WHERE queue = 'keyframes'")[0]


def test_a_task_is_claimed_computed_saved_and_succeeds_in_one_transaction(rows, make_runner):
    rows.job()
    seen = []

    def save(connection, claim, loaded, result):
        seen.append((claim.attempt, result))

    make_runner().run_tasks(rows.task_ids("keyframes"), Small(lambda claims, work: ["result"], save=save))
    assert seen == [(1, "result")]
    assert the_task(rows).state == "succeeded"


def test_a_message_for_a_task_that_is_done_does_nothing(rows, make_runner):
    rows.job()
    ids = rows.task_ids("keyframes")
    runs = []
    count = Small(lambda claims, work: [runs.append(claim) for claim in claims])
    make_runner().run_tasks(ids, count)
    make_runner().run_tasks(ids, count)
    assert len(runs) == 1


def test_a_permanent_error_fails_at_once_with_its_sentence(rows, make_runner):
    job_id = rows.job()

    def compute(claims, work):
        raise PermanentError(ErrorKind.NOT_A_VIDEO, "this is a picture")

    make_runner().run_tasks(rows.task_ids("keyframes"), Small(compute))
    assert the_task(rows) == ("failed", 1, "not_a_video", "this is a picture")
    assert rows.job_state(job_id) == "failed"


def test_a_transient_error_is_tried_again_later(rows, make_runner):
    rows.job()

    def compute(claims, work):
        raise TransientError(ErrorKind.UNREACHABLE, "nobody answers")

    make_runner().run_tasks(rows.task_ids("keyframes"), Small(compute))
    assert the_task(rows) == ("queued", 1, "unreachable", "nobody answers")


@pytest.mark.allow_errors
def test_a_defect_is_tried_again_and_its_reason_names_the_task(rows, make_runner):
    rows.job()
    [task_id] = rows.task_ids("keyframes")

    def compute(claims, work):
        raise KeyError("oops")

    for _ in range(3):
        rows.do("UPDATE tasks SET run_at = now()")
        make_runner().run_tasks([task_id], Small(compute))
    state, attempt, kind, reason = the_task(rows)
    assert (state, attempt, kind) == ("failed", 3, "internal")
    assert task_id in reason and "KeyError" in reason


@pytest.mark.allow_errors
def test_a_task_that_cannot_be_loaded_uses_up_its_attempts(rows, make_runner):
    job_id = rows.job()
    [task_id] = rows.task_ids("keyframes")

    def load(connection, claim):
        raise ValueError("vector 7 has 3 dimensions, not 4")

    for _ in range(3):
        rows.do("UPDATE tasks SET run_at = now()")
        make_runner().run_tasks([task_id], Small(lambda claims, work: [None], load=load))
    assert the_task(rows)[:3] == ("failed", 3, "internal")
    assert rows.job_state(job_id) == "failed"


def test_a_task_whose_loading_kills_its_worker_has_used_an_attempt(rows, make_runner):
    rows.job()
    [task_id] = rows.task_ids("keyframes")
    child = os.fork()
    if not child:
        make_runner().run_tasks([task_id], Small(lambda claims, work: [None], load=lambda *_: os._exit(1)))
    os.waitpid(child, 0)
    assert the_task(rows)[:2] == ("running", 1)


@pytest.mark.allow_errors
def test_a_task_that_cannot_be_loaded_does_not_spoil_those_beside_it(rows, make_runner):
    rows.job(sources=2)
    first, bad = rows.task_ids("keyframes")

    def load(connection, claim):
        if claim.task_id == bad:
            raise ValueError("no such thing")
        return claim

    make_runner().run_tasks([first, bad], Small(lambda claims, work: [None] * len(claims), load=load))
    assert dict(rows.all("SELECT id, state FROM tasks")) == {first: "succeeded", bad: "queued"}


def test_a_full_disk_is_tried_again_and_said_so(rows, make_runner):
    rows.job()

    def compute(claims, work):
        raise OSError(errno.ENOSPC, "No space left on device")

    make_runner().run_tasks(rows.task_ids("keyframes"), Small(compute))
    assert the_task(rows)[:3] == ("queued", 1, "disk_full")


@pytest.mark.allow_errors
def test_a_worker_without_a_folder_to_work_in_says_so(rows, make_runner, tmp_path):
    rows.job()
    (tmp_path / "work").write_text("a file where the folder should be")
    make_runner().run_tasks(rows.task_ids("keyframes"), Small(lambda claims, work: [None]))
    assert the_task(rows)[:3] == ("queued", 1, "internal")


@pytest.mark.allow_errors
def test_what_save_wrote_rolls_back_when_it_fails(rows, make_runner):
    job_id = rows.job()

    def save(connection, claim, loaded, result):
        connection.exec_driver_sql("UPDATE jobs SET name = 'half written'")
        raise RuntimeError("the disk is on fire")

    make_runner().run_tasks(rows.task_ids("keyframes"), Small(lambda claims, work: [None], save=save))
    assert rows.one("SELECT name FROM jobs WHERE id = :id", id=job_id) == ""
    assert the_task(rows).state == "queued"


def test_the_heartbeat_keeps_a_long_task_from_being_taken_back(rows, make_runner, database):
    rows.job()

    def compute(claims, work):
        time.sleep(0.8)
        with database.transaction() as connection:
            assert tasks.take_back_expired(connection) == []
        return [None]

    make_runner(lease_s=0.5).run_tasks(rows.task_ids("keyframes"), Small(compute))
    assert the_task(rows)[:2] == ("succeeded", 1)


def test_work_notices_within_a_heartbeat_that_its_job_was_cancelled(rows, make_runner, database):
    job_id = rows.job()
    noticed = threading.Event()

    def compute(claims, work):
        with database.transaction() as connection:
            tasks.cancel_job(connection, job_id)
        until = time.monotonic() + 5
        try:
            while time.monotonic() < until:
                work.check()
                time.sleep(0.02)
        finally:
            noticed.set()
        return [None]

    started = time.monotonic()
    make_runner().run_tasks(rows.task_ids("keyframes"), Small(compute))
    assert noticed.is_set() and time.monotonic() - started < 2
    assert the_task(rows).state == "cancelled"


def test_the_deadline_fails_the_task_for_good(rows, make_runner):
    rows.job()

    def compute(claims, work):
        while True:
            work.check()
            time.sleep(0.02)

    make_runner().run_tasks(rows.task_ids("keyframes"), Small(compute, deadline_s=0.2))
    state, attempt, kind, reason = the_task(rows)
    assert (state, attempt, kind) == ("failed", 1, "deadline")
    assert reason.startswith("took longer than 0.2 s")


def test_a_worker_that_is_asked_to_stop_hands_its_task_back(rows, make_runner):
    rows.job()

    def compute(claims, work):
        while True:
            work.check()
            time.sleep(0.02)

    make_runner(stopping=lambda: True).run_tasks(rows.task_ids("keyframes"), Small(compute))
    assert the_task(rows) == ("queued", 1, None, None)
    assert rows.one("SELECT attempts_allowed FROM tasks") == 4


def test_a_computation_that_never_looks_up_is_handed_back_too(rows, make_runner):
    rows.job()
    seen = []

    def compute(claims, work):
        until = time.monotonic() + CHECK_MARGIN_S + 3
        while time.monotonic() < until and not seen:
            time.sleep(0.05)
            seen.extend(row for row in rows.all("SELECT attempts_allowed FROM tasks WHERE state = 'queued'"))
        return [None]

    stop = threading.Event()
    saved = []
    threading.Timer(0.2, stop.set).start()
    make_runner(stopping=stop.is_set).run_tasks(
        rows.task_ids("keyframes"), Small(compute, save=lambda *_: saved.append(1))
    )
    assert seen == [(4,)]
    assert not saved and the_task(rows) == ("queued", 1, None, None)


def test_of_several_tasks_together_only_the_guilty_one_fails(rows, make_runner):
    rows.job(sources=3)
    first, guilty, last = rows.task_ids("keyframes")

    def compute(claims, work):
        if guilty in [claim.task_id for claim in claims]:
            raise PermanentError(ErrorKind.BAD_PICTURE, "one of them is bad")
        return [None] * len(claims)

    make_runner().run_tasks([first, guilty, last], Small(compute))
    states = dict(rows.all("SELECT id, state FROM tasks"))
    assert states == {first: "succeeded", guilty: "failed", last: "succeeded"}


def test_each_of_several_tasks_keeps_its_own_fence(rows, make_runner):
    rows.job(sources=2)
    first, stolen = rows.task_ids("keyframes")
    saved = []

    def compute(claims, work):
        rows.do("UPDATE tasks SET attempt = attempt + 1 WHERE id = :id", id=stolen)
        return [None] * len(claims)

    make_runner().run_tasks(
        [first, stolen], Small(compute, save=lambda connection, claim, loaded, result: saved.append(claim.task_id))
    )
    assert saved == [first]


def test_the_work_folder_is_empty_afterwards(rows, make_runner, tmp_path):
    rows.job()

    def compute(claims, work):
        (work.folder / "download").write_bytes(b"x")
        return [None]

    make_runner().run_tasks(rows.task_ids("keyframes"), Small(compute))
    assert list((tmp_path / "work").iterdir()) == []


def test_no_transaction_is_open_while_computing(rows, make_runner):
    rows.job()
    idle = []

    def compute(claims, work):
        idle.append(rows.one("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"))
        return [None]

    make_runner().run_tasks(rows.task_ids("keyframes"), Small(compute))
    assert idle == [0]


def test_a_process_that_lost_its_device_puts_all_its_tasks_off_and_says_so(rows, make_runner):
    job_id = rows.job(sources=2)
    first, second = rows.task_ids("keyframes", job_id)
    computed = []

    def compute(claims, work):
        computed.append(len(claims))
        raise ProcessSpoiled(ErrorKind.DEVICE_LOST, "the GPU fell off the bus")

    with pytest.raises(ProcessSpoiled):
        make_runner().run_tasks([first, second], Small(compute))
    assert computed == [2], "none of them is tried again in the same process"
    states = rows.all("SELECT state, attempt, error_kind FROM tasks WHERE queue = 'keyframes'")
    assert states == [("queued", 1, "device_lost")] * 2


def test_what_a_killed_sibling_left_is_swept_before_the_next_task(rows, make_runner, tmp_path):
    rows.job()
    (tmp_path / "work" / "work-of-the-dead").mkdir(parents=True)
    os.utime(tmp_path / "work" / "work-of-the-dead", (0, 0))
    make_runner().run_tasks(rows.task_ids("keyframes"), Small(lambda claims, work: [None]))
    assert list((tmp_path / "work").iterdir()) == []


def test_a_handler_with_room_gets_further_tasks_of_the_same_model(rows, make_runner):
    for _ in range(3):
        rows.cut_up(*rows.claim(*rows.task_ids("keyframes", rows.job())), key_frames_=2)
    first, *_ = rows.task_ids("embedding")
    together = []

    def compute(claims, work):
        together.append(len(claims))
        return [None] * len(claims)

    make_runner().run_tasks([first], Small(compute, room=3))
    assert together == [2], "two key frames each: one further task fits, and two would not"
    assert rows.all("SELECT state, count(*) FROM tasks WHERE queue = 'embedding' GROUP BY state ORDER BY state") == [
        ("queued", 1),
        ("succeeded", 2),
    ]
