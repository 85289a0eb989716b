"""The rules of state, on a real Postgres."""

from __future__ import annotations

import threading
from collections.abc import Callable
from unittest.mock import ANY

import pytest
from sqlalchemy import text

from shared import tasks
from shared.errors import ErrorKind, TransientError
from shared.pipeline import Queue
from shared.tables import DEFAULT_PROJECT_ID
from shared.tasks import MOVES, Claim, JobState, TaskState, job_state


def together(*acts: Callable[[], object]) -> list[object]:
    """Run the acts at the same time; what each returned or raised."""
    gate = threading.Barrier(len(acts))
    results: list[object] = [None] * len(acts)

    def run(position: int, act: Callable[[], object]) -> None:
        gate.wait()
        try:
            results[position] = act()
        except Exception as error:
            results[position] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def finish_first_round(rows, job_id: str) -> None:
    for claim in rows.claim(*rows.task_ids("keyframes", job_id)):
        rows.cut_up(claim)
    for claim in rows.claim(*rows.task_ids("embedding", job_id)):
        rows.embed(claim)
    for claim in rows.claim(*rows.task_ids("clustering", job_id)):
        rows.end(claim)


# --- claim, lease, fence


def test_ten_workers_that_get_the_same_message_claim_it_once(rows):
    rows.job()
    [task_id] = rows.task_ids("keyframes")
    claims = together(*[lambda: rows.claim(task_id)] * 10)
    assert sorted(len(c) for c in claims) == [0] * 9 + [1]
    assert rows.one("SELECT attempt FROM tasks") == 1


def test_a_claim_starts_the_job(rows):
    job_id = rows.job()
    assert rows.job_state(job_id) == "queued"
    rows.claim(*rows.task_ids("keyframes"))
    assert rows.job_state(job_id) == "running"
    assert rows.one("SELECT started_at IS NOT NULL FROM jobs")


def test_a_task_that_is_not_due_yet_cannot_be_claimed(rows):
    rows.job()
    [task_id] = rows.task_ids("keyframes")
    rows.do("UPDATE tasks SET run_at = now() + interval '1 minute'")
    assert rows.claim(task_id) == []


def test_a_worker_that_lost_its_lease_changes_nothing(rows, database):
    rows.job()
    [task_id] = rows.task_ids("keyframes")
    [late] = rows.claim(task_id, lease_s=-1)
    with database.transaction() as connection:
        assert tasks.take_back_expired(connection) == [(task_id, "queued")]
    [second] = rows.claim(task_id)
    assert (late.attempt, second.attempt) == (1, 2)
    for move in (
        tasks.succeed,
        tasks.hand_back,
        lambda c, claim: tasks.fail(c, claim, ErrorKind.DAMAGED, "no"),
        lambda c, claim: tasks.try_later(c, claim, TransientError(ErrorKind.UNREACHABLE, "no"), backoff_s=1),
    ):
        assert rows.end(late, move) is False
    with database.transaction() as connection:
        assert tasks.renew(connection, [late, second], lease_s=60) == {task_id}
    assert rows.one("SELECT state FROM tasks") == "running"
    assert rows.end(second)


def test_an_expired_lease_costs_an_attempt_and_the_last_one_fails_the_task(rows, database):
    job_id = rows.job()
    [task_id] = rows.task_ids("keyframes")
    states = []
    for _ in range(3):
        assert rows.claim(task_id, lease_s=-1)
        with database.transaction() as connection:
            states += [state for _, state in tasks.take_back_expired(connection)]
    assert states == ["queued", "queued", "failed"]
    assert rows.all("SELECT error_kind, error FROM tasks") == [
        ("worker_lost", "the worker stopped answering while it worked on this, 3 times; it was given up")
    ]
    assert rows.job_state(job_id) == "failed"


def test_a_live_lease_is_not_taken_back(rows, database):
    rows.job()
    rows.claim(*rows.task_ids("keyframes"))
    with database.transaction() as connection:
        assert tasks.take_back_expired(connection) == []


# --- ends


def test_a_transient_error_waits_four_times_longer_each_time_and_fails_at_last(rows):
    rows.job()
    [task_id] = rows.task_ids("keyframes")
    error = TransientError(ErrorKind.UNREACHABLE, "the server is away")
    waits = []
    for _ in range(2):
        [claim] = rows.claim(task_id)
        rows.end(claim, lambda c, claim: tasks.try_later(c, claim, error, backoff_s=10))
        waits.append(float(rows.one("SELECT extract(epoch FROM run_at - now()) FROM tasks")))
        rows.do("UPDATE tasks SET run_at = now()")
    # 10 s and 40 s, each up to a fifth shorter or longer
    assert 7 < waits[0] < 13 and 31 < waits[1] < 49
    [claim] = rows.claim(task_id)
    rows.end(claim, lambda c, claim: tasks.try_later(c, claim, error, backoff_s=10))
    assert rows.all("SELECT state, error FROM tasks") == [("failed", "the server is away (tried 3 times)")]


def test_the_other_side_may_name_a_longer_wait(rows):
    rows.job()
    [claim] = rows.claim(*rows.task_ids("keyframes"))
    error = TransientError(ErrorKind.THROTTLED, "slow down", retry_after_s=600)
    rows.end(claim, lambda c, claim: tasks.try_later(c, claim, error, backoff_s=10))
    assert rows.one("SELECT extract(epoch FROM run_at - now()) FROM tasks") > 590


def test_a_reason_is_kept_as_one_clean_line(rows):
    rows.job(sources=2)
    first, second = rows.claim(*rows.task_ids("keyframes"))
    reason = "the server said \0 and \udcff\x1b[1m\nso"
    rows.end(first, lambda c, claim: tasks.fail(c, claim, ErrorKind.SERVER_ERROR, reason))
    error = TransientError(ErrorKind.SERVER_ERROR, reason)
    rows.end(second, lambda c, claim: tasks.try_later(c, claim, error, backoff_s=1))
    assert rows.all("SELECT DISTINCT error FROM tasks") == [("the server said and [1m so",)]


def test_a_hand_back_costs_no_attempt(rows):
    rows.job()
    [task_id] = rows.task_ids("keyframes")
    for _ in range(5):
        [claim] = rows.claim(task_id)
        assert rows.end(claim, tasks.hand_back)
    assert rows.all("SELECT state, attempt, attempts_allowed FROM tasks") == [("queued", 5, 8)]


# --- what follows


def test_a_job_goes_from_sources_to_clusterings(rows):
    job_id = rows.job(sources=2, models=["colour", "shape"])
    first, second = rows.claim(*rows.task_ids("keyframes"))
    rows.cut_up(first)
    assert len(rows.task_ids("embedding")) == 2
    for claim in rows.claim(*rows.task_ids("embedding")):
        rows.embed(claim)
    assert rows.task_ids("clustering") == [], "a source is still open"
    rows.cut_up(second)
    for claim in rows.claim(*rows.task_ids("embedding")):
        rows.embed(claim)
    clusterings = rows.claim(*rows.task_ids("clustering"))
    assert sorted(c.model for c in clusterings) == ["colour", "shape"]
    rows.end(clusterings[0])
    assert rows.job_state(job_id) == "running"
    rows.end(clusterings[1])
    assert rows.job_state(job_id) == "succeeded"
    assert rows.one("SELECT finished_at IS NOT NULL FROM jobs")


def test_the_time_of_work_does_not_hold_that_in_which_nothing_was_to_do(rows):
    job_id = rows.job()
    rows.do("UPDATE jobs SET created_at = now() - interval '1 hour'")
    finish_first_round(rows, job_id)
    assert rows.one("SELECT worked_s BETWEEN 0 AND 60 AND resumed_at IS NULL FROM jobs")
    rows.do("UPDATE jobs SET worked_s = 10, started_at = now() - interval '1 day', finished_at = started_at")
    rows.add_sources(job_id)
    rows.do("UPDATE jobs SET resumed_at = resumed_at - interval '5 s'")
    finish_first_round(rows, job_id)
    assert rows.one("SELECT worked_s BETWEEN 15 AND 70 FROM jobs")
    rows.add_sources(job_id)
    rows.do("UPDATE jobs SET resumed_at = resumed_at - interval '100 s'")
    with rows.database.transaction() as connection:
        assert tasks.cancel_job(connection, job_id)
    assert rows.one("SELECT worked_s BETWEEN 115 AND 170 AND resumed_at IS NULL FROM jobs")


def test_failed_sources_do_not_stop_a_job(rows):
    job_id = rows.job(sources=2)
    first, second = rows.claim(*rows.task_ids("keyframes"))
    rows.end(first, lambda c, claim: tasks.fail(c, claim, ErrorKind.NOT_FOUND, "not there"))
    rows.cut_up(second)
    rows.embed(*rows.claim(*rows.task_ids("embedding")))
    rows.cluster(*rows.claim(*rows.task_ids("clustering")))
    assert rows.job_state(job_id) == "partly_failed"


def test_a_job_whose_sources_all_fail_is_failed_without_a_clustering(rows):
    job_id = rows.job()
    [claim] = rows.claim(*rows.task_ids("keyframes"))
    rows.end(claim, lambda c, claim: tasks.fail(c, claim, ErrorKind.NOT_FOUND, "not there"))
    assert rows.job_state(job_id) == "failed"
    assert rows.one("SELECT count(*) FROM clusterings") == 0


def test_the_last_chunks_ending_at_one_instant_make_one_clustering(rows):
    rows.job(sources=8)
    for claim in rows.claim(*rows.task_ids("keyframes")):
        rows.cut_up(claim, key_frames_=1)
    claims = rows.claim(*rows.task_ids("embedding"))
    assert len(claims) == 8
    assert together(*[lambda c=c: rows.embed(c) for c in claims]) == [True] * 8
    assert rows.one("SELECT count(*) FROM clusterings") == 1
    assert len(rows.task_ids("clustering")) == 1


def test_one_task_per_chunk_of_256_key_frames(rows):
    rows.job()
    [claim] = rows.claim(*rows.task_ids("keyframes"))
    rows.cut_up(claim, key_frames_=513)
    assert [r.chunk for r in rows.all("SELECT chunk FROM tasks WHERE queue = 'embedding' ORDER BY chunk")] == [0, 1, 2]


def test_a_video_that_occurs_twice_in_a_job_is_embedded_once(rows):
    rows.job(sources=2)
    for claim in rows.claim(*rows.task_ids("keyframes")):
        rows.cut_up(claim, sha256="same")
    assert len(rows.task_ids("embedding")) == 1


def test_a_video_whose_vectors_another_job_made_leads_straight_to_the_clustering(rows):
    finish = rows.job()
    [claim] = rows.claim(*rows.task_ids("keyframes", finish))
    rows.cut_up(claim, sha256="known")
    rows.embed(*rows.claim(*rows.task_ids("embedding")))
    again = rows.job()
    [claim] = rows.claim(*rows.task_ids("keyframes", again))
    rows.cut_up(claim, sha256="known")
    assert rows.task_ids("embedding", again) == []
    assert len(rows.task_ids("clustering", again)) == 1


def test_sources_added_later_make_a_new_version_of_the_clusterings(rows):
    job_id = rows.job()
    finish_first_round(rows, job_id)
    assert rows.job_state(job_id) == "succeeded"
    rows.add_sources(job_id)
    assert rows.job_state(job_id) == "running"
    finish_first_round(rows, job_id)
    assert rows.job_state(job_id) == "succeeded"
    assert [r.round for r in rows.all("SELECT round FROM clusterings ORDER BY round")] == [1, 2]


def test_a_clustering_that_a_person_asks_for_never_changes_the_job(rows, database):
    job_id = rows.job()
    finish_first_round(rows, job_id)
    with database.transaction() as connection:
        asked = connection.execute(
            text(
                """INSERT INTO clusterings (job_id, round, model, settings, settings_key, asked)
                SELECT job_id, round, model, settings, settings_key, true FROM clusterings RETURNING id"""
            )
        ).scalar_one()
        tasks.add_clustering_task(connection, job_id, asked)
    [claim] = rows.claim(*rows.task_ids("clustering"))
    assert rows.job_state(job_id) == "succeeded"
    rows.end(claim, lambda c, claim: tasks.fail(c, claim, ErrorKind.NO_VECTORS, "nothing to cluster"))
    assert rows.job_state(job_id) == "succeeded"


# --- what a person does


def test_cancelling_ends_a_job_at_once_and_fences_its_workers(rows, database):
    job_id = rows.job(sources=2)
    first, _ = rows.task_ids("keyframes")
    [claim] = rows.claim(first)
    with database.transaction() as connection:
        assert tasks.cancel_job(connection, job_id)
    assert rows.job_state(job_id) == "cancelled"
    assert {r.state for r in rows.all("SELECT state FROM tasks")} == {"cancelled"}
    assert rows.end(claim) is False
    with database.transaction() as connection:
        assert tasks.renew(connection, [claim], lease_s=60) == set()
        assert tasks.cancel_job(connection, job_id) is False


def test_a_cancelled_job_stays_cancelled_whatever_ends(rows, database):
    job_id = rows.job()
    with database.transaction() as connection:
        tasks.cancel_job(connection, job_id)
        assert tasks.advance(connection, job_id) is JobState.CANCELLED
    assert rows.job_state(job_id) == "cancelled"


def test_cancel_and_the_end_of_a_source_at_one_instant_leave_nothing_open(rows, database):
    def cancel(job_id: str) -> None:
        with database.transaction() as connection:
            tasks.cancel_job(connection, job_id)

    for _ in range(10):
        job_id = rows.job()
        [claim] = rows.claim(*rows.task_ids("keyframes", job_id))
        together(lambda claim=claim: rows.cut_up(claim), lambda job_id=job_id: cancel(job_id))
        assert rows.job_state(job_id) == "cancelled"
        assert rows.one("SELECT count(*) FROM tasks WHERE state IN ('queued', 'running')") == 0


def test_retry_requeues_only_what_failed_and_allows_three_more_attempts(rows, database):
    job_id = rows.job(sources=2)
    good, bad = rows.claim(*rows.task_ids("keyframes"))
    rows.cut_up(good)
    rows.end(bad, lambda c, claim: tasks.fail(c, claim, ErrorKind.NOT_FOUND, "not there"))
    rows.embed(*rows.claim(*rows.task_ids("embedding")))
    rows.cluster(*rows.claim(*rows.task_ids("clustering")))
    with database.transaction() as connection:
        assert tasks.retry_job(connection, job_id) == 1
        tasks.advance(connection, job_id)
    assert rows.job_state(job_id) == "running"
    [again] = rows.claim(*rows.task_ids("keyframes"))
    assert (again.task_id, again.attempt, again.attempts_allowed) == (bad.task_id, 2, 6)
    rows.cut_up(again)
    rows.embed(*rows.claim(*rows.task_ids("embedding")))
    rows.cluster(*rows.claim(*rows.task_ids("clustering")))
    assert rows.job_state(job_id) == "succeeded"


def test_retry_brings_a_cancelled_job_back(rows, database):
    job_id = rows.job()
    with database.transaction() as connection:
        tasks.cancel_job(connection, job_id)
        assert tasks.retry_job(connection, job_id) == 1
        tasks.advance(connection, job_id)
    finish_first_round(rows, job_id)
    assert rows.job_state(job_id) == "succeeded"


def test_retry_of_a_failed_clustering_makes_a_new_one(rows, database):
    job_id = rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")))
    rows.embed(*rows.claim(*rows.task_ids("embedding")))
    [claim] = rows.claim(*rows.task_ids("clustering"))
    rows.end(claim, lambda c, claim: tasks.fail(c, claim, ErrorKind.DEADLINE, "took too long"))
    assert rows.job_state(job_id) == "failed"
    with database.transaction() as connection:
        tasks.retry_job(connection, job_id)
        tasks.advance(connection, job_id)
    rows.cluster(*rows.claim(*rows.task_ids("clustering")))
    assert rows.job_state(job_id) == "succeeded"


# --- what the dispatcher does


def due(database, queue: Queue = Queue.KEYFRAMES, *, window: int = 500, per_host: int = 4) -> list[str]:
    with database.transaction() as connection:
        return tasks.due(connection, queue, window=window, per_host=per_host)


def mark_sent(database, task_ids: list[str]) -> None:
    with database.transaction() as connection:
        tasks.mark_sent(connection, task_ids)


def test_a_small_job_does_not_wait_behind_a_huge_one(rows, database):
    rows.job(sources=20)
    small = rows.job(sources=2)
    assert set(rows.task_ids("keyframes", small)) <= set(due(database, window=4))


def test_at_most_a_window_of_messages_is_sent_and_unclaimed(rows, database):
    rows.job(sources=8)
    first = due(database, window=5)
    assert len(first) == 5
    mark_sent(database, first)
    assert due(database, window=5) == []
    rows.claim(*first[:2])
    assert len(due(database, window=5)) == 2


def test_at_most_four_fetches_of_one_host_are_sent_or_running(rows, database):
    rows.job(sources=6, host="one.example")
    rows.job(sources=1, host="two.example")
    first = due(database)
    assert len(first) == 5
    mark_sent(database, first)
    claims = rows.claim(*first)
    assert due(database) == []
    rows.cut_up(next(c for c in claims if c.job_id == rows.job_ids[0]))
    assert len(due(database)) == 1


def test_fifty_jobs_with_one_url_are_four_fetches_at_a_time(rows, database):
    """T19"""
    for _ in range(50):
        rows.job(sources=1, host="one.example")
    fetched = 0
    while sent := due(database):
        assert len(sent) == 4 if fetched < 48 else 2
        mark_sent(database, sent)
        assert due(database) == [], "they count while they wait for a worker"
        claims = rows.claim(*sent)
        assert due(database) == [], "and while they run"
        for claim in claims:
            rows.end(claim)
        fetched += len(claims)
    assert fetched == 50


def test_a_small_job_gets_the_next_place_while_a_huge_one_fills_the_window(rows, database):
    rows.job(sources=20)
    mark_sent(database, due(database, window=5))
    small = rows.job(sources=1)
    rows.claim(rows.one("SELECT id FROM tasks WHERE sent_at IS NOT NULL LIMIT 1"))
    assert due(database, window=5) == rows.task_ids("keyframes", small)


def test_a_small_job_gets_the_next_fetch_of_a_host_that_a_huge_one_keeps_busy(rows, database):
    rows.job(sources=20, host="one.example")
    mark_sent(database, due(database))
    small = rows.job(sources=1, host="one.example")
    [claim] = rows.claim(rows.one("SELECT id FROM tasks WHERE sent_at IS NOT NULL LIMIT 1"))
    rows.end(claim)
    assert due(database) == rows.task_ids("keyframes", small)


def test_a_busy_host_does_not_hide_the_sources_behind_it(rows, database):
    job_id = rows.job(sources=30, host="one.example")
    mark_sent(database, due(database))
    rows.do(
        """UPDATE tasks SET host = 'two.example', run_at = run_at + interval '1 microsecond'
        WHERE id IN (SELECT id FROM tasks WHERE sent_at IS NULL LIMIT 3)"""
    )
    assert len(due(database, window=6)) == 2
    assert rows.one("SELECT count(*) FROM tasks WHERE job_id = :id AND sent_at IS NOT NULL", id=job_id) == 4


def test_messages_are_sent_only_as_far_ahead_as_workers_claim_them(rows, database):
    rows.job(sources=100)
    first = due(database)
    assert len(first) == tasks.LEAST_WINDOW, "nobody has claimed anything yet"
    mark_sent(database, first)
    assert due(database) == []
    for _ in range(3):
        rows.claim(*rows.task_ids_sent())
        mark_sent(database, due(database))
    assert len(rows.task_ids_sent()) > 2 * tasks.LEAST_WINDOW
    rows.do("UPDATE tasks SET sent_at = sent_at - interval '1 minute', claimed_at = claimed_at - interval '1 minute'")
    rows.claim(*rows.task_ids_sent())
    rows.do("UPDATE tasks SET sent_at = sent_at - interval '1 minute'")
    assert len(due(database)) == tasks.LEAST_WINDOW, "workers have become slow"


def test_query_pictures_are_sent_in_the_order_in_which_they_came(rows, database):
    ids = []
    for n in range(3):
        with database.transaction() as connection:
            query_id = connection.execute(
                text("INSERT INTO queries (project_id, model, blob) VALUES (:p, 'colour', :b) RETURNING id"),
                {"p": DEFAULT_PROJECT_ID, "b": f"queries/{n}"},
            ).scalar_one()
            tasks.add_query_task(connection, query_id)
        ids.append(rows.one("SELECT id FROM tasks WHERE query_id = :id", id=query_id))
    assert due(database, Queue.QUERY, window=2) == ids[:2]


def test_a_task_that_was_overtaken_is_sent_again(rows, database):
    rows.job(sources=2)
    lost, other = rows.task_ids("keyframes")
    mark_sent(database, [lost, other])
    rows.do("UPDATE tasks SET sent_at = now() - interval '2 minutes' WHERE id = :id", id=lost)
    with database.transaction() as connection:
        assert tasks.forget_overtaken(connection, Queue.KEYFRAMES, after_s=60) == 0
    rows.claim(other)
    with database.transaction() as connection:
        assert tasks.forget_overtaken(connection, Queue.KEYFRAMES, after_s=60) == 1
    assert due(database) == [lost]


def test_a_task_that_was_put_off_before_its_message_was_noted_is_sent_again_when_it_is_due(rows, database):
    rows.job()
    [task_id] = due(database)
    [claim] = rows.claim(task_id)
    error = TransientError(ErrorKind.UNREACHABLE, "away")
    rows.end(claim, lambda c, claim: tasks.try_later(c, claim, error, backoff_s=10))
    mark_sent(database, [task_id])
    rows.do("UPDATE tasks SET run_at = now()")
    assert due(database) == [task_id]


def test_forgetting_what_was_sent_leaves_running_tasks_alone(rows, database):
    rows.job(sources=2)
    sent = rows.task_ids("keyframes")
    mark_sent(database, sent)
    rows.claim(sent[0])
    with database.transaction() as connection:
        assert tasks.forget_sent(connection, Queue.KEYFRAMES) == 1
    assert due(database) == [sent[1]]


# --- the whole


def test_a_task_that_was_claimed_without_its_message_overtakes_nobody(rows, database):
    rows.job(sources=3)
    for claim in rows.claim(*rows.task_ids("keyframes")):
        rows.cut_up(claim, key_frames_=10)
    early, first, late = rows.task_ids("embedding")
    mark_sent(database, [early, first, late])
    rows.do("UPDATE tasks SET sent_at = sent_at - interval '2 minutes' WHERE id IN (:a, :b)", a=early, b=first)
    rows.do("UPDATE tasks SET run_at = now() WHERE id = :id", id=early)
    [claim] = rows.claim(first)
    with database.transaction() as connection:
        more = tasks.claim_more(connection, claim, key_frames=10, owner="test", lease_s=60)
        assert [c.task_id for c in more] == [late]
        assert tasks.forget_overtaken(connection, Queue.EMBEDDING, after_s=60) == 0


def test_claiming_more_fills_up_to_256_key_frames_of_the_same_model(rows, database):
    rows.job(sources=4, models=["colour", "shape"])
    for claim in rows.claim(*rows.task_ids("keyframes")):
        rows.cut_up(claim, key_frames_=100)
    colour = [r.id for r in rows.all("SELECT id FROM tasks WHERE queue = 'embedding' AND model = 'colour'")]
    [first] = rows.claim(colour[0])
    with database.transaction() as connection:
        more = tasks.claim_more(connection, first, key_frames=156, owner="test", lease_s=60)
    assert [c.model for c in more] == ["colour"]


def test_what_fits_is_counted_by_the_key_frames_of_each_chunk(rows, database):
    rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")), key_frames_=300)
    by_chunk = dict(rows.all("SELECT chunk, id FROM tasks WHERE queue = 'embedding'"))
    [first] = rows.claim(by_chunk[0])

    def more(key_frames: int) -> int:
        with database.transaction() as connection:
            found = tasks.claim_more(connection, first, key_frames=key_frames, owner="test", lease_s=60)
            connection.rollback()
        return len(found)

    assert [more(n) for n in (0, 43, 44)] == [0, 0, 1], "chunk 1 holds 44 of the 300 key frames"


def test_filling_skips_what_another_worker_is_taking(rows, database):
    rows.job(sources=3)
    for claim in rows.claim(*rows.task_ids("keyframes")):
        rows.cut_up(claim, key_frames_=10)
    first, second = rows.claim(*rows.task_ids("embedding")[:2])

    def fill(claim: Claim) -> list[Claim]:
        with database.transaction() as connection:
            return tasks.claim_more(connection, claim, key_frames=100, owner="test", lease_s=60)

    found = together(lambda: fill(first), lambda: fill(second))
    assert sorted(len(claims) for claims in found) == [0, 1]


@pytest.mark.parametrize("source", TaskState)
@pytest.mark.parametrize("target", TaskState)
def test_the_statements_make_exactly_the_moves_of_the_table(rows, database, source, target):
    """Put a task into each state and try every statement that leads to `target`."""
    job_id = rows.job()
    [task_id] = rows.task_ids("keyframes")
    rows.do(
        """UPDATE tasks SET state = :state, attempt = 1,
           lease_until = CASE WHEN :state = 'running' THEN now() + interval '1 minute' END,
           finished_at = CASE WHEN :state IN ('queued', 'running') THEN NULL ELSE now() END,
           error = CASE WHEN :state = 'failed' THEN 'why' END""",
        state=source.value,
    )
    claim = Claim(task_id, 1, 3, Queue.KEYFRAMES, job_id, None, None, None, None, None, None, None)
    error = TransientError(ErrorKind.UNREACHABLE, "away")
    ways: dict[TaskState, list[Callable]] = {
        TaskState.RUNNING: [lambda c: tasks.claim(c, [task_id], owner="test", lease_s=60)],
        TaskState.SUCCEEDED: [lambda c: tasks.succeed(c, claim)],
        TaskState.FAILED: [lambda c: tasks.fail(c, claim, ErrorKind.DAMAGED, "why")],
        TaskState.CANCELLED: [lambda c: tasks.cancel_job(c, job_id)],
        TaskState.QUEUED: [
            lambda c: tasks.try_later(c, claim, error, backoff_s=1),
            lambda c: tasks.hand_back(c, claim),
            lambda c: tasks.retry_job(c, job_id),
        ],
    }
    for way in ways[target]:
        with database.transaction() as connection:
            way(connection)
    moved = rows.one("SELECT state FROM tasks") == target.value
    assert moved == (target in MOVES[source] or source is target)


@pytest.mark.parametrize(
    ("failed_tasks", "produced", "state"),
    [
        (0, 2, JobState.SUCCEEDED),
        (1, 2, JobState.PARTLY_FAILED),
        (3, 0, JobState.FAILED),
        (0, 0, JobState.FAILED),
    ],
)
def test_what_its_tasks_make_of_a_job_once_none_is_open(failed_tasks, produced, state):
    assert job_state(failed_tasks, produced) is state


def kept_attempts(rows):
    return rows.all(
        """SELECT attempt, owner, outcome, error_kind, error, started_at <= ended_at AS ordered
        FROM task_attempts ORDER BY task_id, attempt"""
    )


def test_every_attempt_at_a_task_is_kept(rows, database):
    rows.job()
    [task_id] = rows.task_ids("keyframes")
    [claim] = rows.claim(task_id)
    assert kept_attempts(rows) == [], "one that runs is in the task's row"
    later = TransientError(ErrorKind.UNREACHABLE, "nobody answers")
    rows.end(claim, lambda connection, claim: tasks.try_later(connection, claim, later, backoff_s=0))
    rows.do("UPDATE tasks SET run_at = now()")
    rows.end(*rows.claim(task_id), tasks.hand_back)
    rows.claim(task_id, lease_s=-1)
    with database.transaction() as connection:
        tasks.take_back_expired(connection)
    rows.end(*rows.claim(task_id), lambda *which: tasks.fail(*which, ErrorKind.NOT_A_VIDEO, "a picture"))
    assert kept_attempts(rows) == [
        (1, "test", "put_off", "unreachable", "nobody answers", True),
        (2, "test", "handed_back", None, None, True),
        (3, "test", "lost", "worker_lost", ANY, True),
        (4, "test", "failed", "not_a_video", "a picture", True),
    ]
    assert rows.one("SELECT owner FROM tasks WHERE id = :id", id=task_id) is None


def test_an_attempt_that_is_not_ours_any_more_is_not_kept_twice(rows, database):
    rows.job()
    [claim] = rows.claim(*rows.task_ids("keyframes"), lease_s=-1)
    with database.transaction() as connection:
        tasks.take_back_expired(connection)
    assert rows.end(claim) is False
    assert [row.outcome for row in kept_attempts(rows)] == ["lost"]


def test_cancelling_ends_the_attempts_that_run_and_no_others(rows, database):
    job_id = rows.job(sources=3)
    first, *_ = rows.task_ids("keyframes")
    rows.claim(first)
    with database.transaction() as connection:
        assert tasks.cancel_job(connection, job_id)
    assert rows.all("SELECT task_id, outcome, owner FROM task_attempts") == [(first, "cancelled", "test")]


def test_attempts_go_with_their_task(rows):
    job_id = rows.job()
    rows.end(*rows.claim(*rows.task_ids("keyframes")))
    assert [row.outcome for row in kept_attempts(rows)] == ["succeeded"]
    rows.do("DELETE FROM jobs WHERE id = :job", job=job_id)
    assert kept_attempts(rows) == []
