"""The one shape of every stage's work: claim, load, compute, save, with a heartbeat beside it.

A `Handler` says what that work is. Its `load` and `save` see rows only, each in a short transaction; `compute` fetches,
decodes, embeds, reads and writes blobs, with no transaction open. What `compute` raises decides the task's end:
`PermanentError` fails it, `TransientError` queues it again, anything else is a defect of ours and is tried again until
the attempts are used up.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy import Connection

from shared import failpoints, tasks
from shared.db import Database, is_unavailable
from shared.errors import ErrorKind, PermanentError, ProcessSpoiled, TransientError, one_line
from shared.tasks import Claim
from shared.work_folders import gc, work_folder

logger = logging.getLogger(__name__)

#: How often the heartbeat looks whether the worker was asked to stop.
LOOK_EVERY_S = 0.5

#: Seconds after `stop_grace_s` in which a computation that calls `Work.check` hands its task back by itself.
CHECK_MARGIN_S = 2

Loaded = TypeVar("Loaded")
Result = TypeVar("Result")


class LeaseLost(Exception):
    """The task is no longer ours: cancelled, deleted, or taken by another worker. Drop everything."""


class HandBack(Exception):
    """The worker was asked to stop: put the task back for another one."""


@dataclass
class Work:
    """What a running computation may ask and use.

    folder: a folder of its own, removed afterwards.
    """

    folder: Path
    deadline_s: float
    stop_grace_s: float
    stopping: Callable[[], bool]
    started: float = field(default_factory=time.monotonic)
    _lost: threading.Event = field(default_factory=threading.Event)
    _stop_seen: float | None = None

    def check(self) -> None:
        """Return if the work should go on. To be called at least about once a second.

        Raises `LeaseLost`, `HandBack`, or `PermanentError` when the stage's deadline has passed.
        """
        if self._lost.is_set():
            raise LeaseLost
        if self.overdue_s >= 0:
            raise HandBack
        if self.remaining_s <= 0:
            raise PermanentError(
                ErrorKind.DEADLINE,
                f"took longer than {self.deadline_s:g} s; raise the stage's deadline if that is to be expected",
            )

    @property
    def overdue_s(self) -> float:
        """Seconds since a worker that was asked to stop should have handed the task back; negative before that."""
        if not self.stopping():
            return float("-inf")
        self._stop_seen = self._stop_seen or time.monotonic()
        return time.monotonic() - self._stop_seen - self.stop_grace_s

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline."""
        return self.started + self.deadline_s - time.monotonic()

    def lose(self) -> None:
        """Note that the lease is lost: the next `check` says so."""
        self._lost.set()


class Handler(ABC, Generic[Loaded, Result]):
    """How the tasks of one queue are done, as one worker process does it.

    deadline_s: how long one task, or several together, may take.
    """

    deadline_s: float

    @abstractmethod
    def load(self, connection: Connection, claim: Claim) -> Loaded | None:
        """The rows that a claimed task is about; None when they are gone (deleted meanwhile)."""

    def room(self, claim: Claim, loaded: Loaded) -> int:
        """How many more key frames can be done together with this task, for further tasks of the same model."""
        return 0

    @abstractmethod
    def compute(self, items: Sequence[Loaded], work: Work) -> Sequence[Result]:
        """The work on one or several tasks: one result for each, in the same order."""

    @abstractmethod
    def save(self, connection: Connection, claim: Claim, loaded: Loaded, result: Result) -> None:
        """Write the rows of one result, in the transaction that also ends the task."""


@dataclass(frozen=True)
class Runner:
    """What every task of a worker process shares."""

    database: Database
    work_folder: Path
    lease_s: float
    heartbeat_s: float
    backoff_s: float
    stop_grace_s: float
    stopping: Callable[[], bool] = lambda: False
    host: str = field(default_factory=socket.gethostname)

    @property
    def owner(self) -> str:
        """Who holds a lease, for people reading the rows."""
        return f"{self.host}:{os.getpid()}"

    def run_tasks(self, task_ids: Collection[str], handler: Handler[Loaded, Result]) -> None:
        """Claim those of the tasks that can be claimed and bring each to an end or back into the queue.

        Returns normally whatever the tasks' outcome. Raises when the database stays away, and then the leases expire
        and the tasks are done again; and `ProcessSpoiled`, with the tasks put off, when this process can do no more.
        """

        # Committed by itself: an attempt counts whatever loading and computing do to this process.
        claims = self.database.retrying(
            lambda connection: tasks.claim(connection, task_ids, owner=self.owner, lease_s=self.lease_s)
        )
        if not claims:
            logger.info(
                "nothing to claim: done, cancelled or taken already",
                extra={"event": "nothing_to_claim", "task_ids": ",".join(task_ids)},
            )
            return
        failpoints.reach(f"{claims[0].queue}.claimed")
        try:
            with self._heartbeat(claims, handler) as work:
                items = self._load(claims, handler)
                if items and (room := handler.room(*items[0])) > 0:
                    more = self._claim_more(items[0][0], room)
                    claims += more
                    items += self._load(more, handler)
                if items:
                    self._finish(items, handler, work)
        except OSError as error:  # no folder to work in
            for claim in claims:
                self._end_badly(claim, error)

    def _load(self, claims: Sequence[Claim], handler: Handler[Loaded, Result]) -> list[tuple[Claim, Loaded]]:
        items = []
        for claim in claims:
            try:
                loaded = self.database.retrying(lambda connection, claim=claim: handler.load(connection, claim))  # type: ignore[misc]
            except Exception as error:
                self._end_badly(claim, error)
                continue
            if loaded is not None:
                items.append((claim, loaded))
        return items

    def _claim_more(self, first: Claim, room: int) -> list[Claim]:
        return self.database.retrying(
            lambda connection: tasks.claim_more(
                connection, first, key_frames=room, owner=self.owner, lease_s=self.lease_s
            )
        )

    def _finish(self, items: list[tuple[Claim, Loaded]], handler: Handler[Loaded, Result], work: Work) -> None:
        started = time.monotonic()
        try:
            work.check()
            failpoints.reach(f"{items[0][0].queue}.computing", items)
            results = handler.compute([loaded for _, loaded in items], work)
            failpoints.reach(f"{items[0][0].queue}.computed", items)
        except LeaseLost:
            logger.warning("the task is not ours any more, dropping it", extra=_names("lease_lost", items))
        except HandBack:
            logger.info("asked to stop, handing the task back", extra=_names("handed_back", items))
            for claim, _ in items:
                self._end(claim, tasks.hand_back)
        except ProcessSpoiled as error:
            for claim, _ in items:
                self._end_badly(claim, error)
            raise
        except Exception as error:
            if len(items) > 1:
                # One of them spoils it for all: do each by itself, so that only the guilty one ends badly.
                for item in items:
                    self._finish([item], handler, work)
                return
            self._end_badly(items[0][0], error)
        else:
            computed_s = time.monotonic() - started
            for (claim, loaded), result in zip(items, results, strict=True):
                self._save(claim, loaded, result, handler)
            logger.info(
                "%s done in %.2f s", items[0][0].queue, computed_s, extra=_names("computed", items) | {"n": len(items)}
            )

    def _save(self, claim: Claim, loaded: Loaded, result: Result, handler: Handler[Loaded, Result]) -> None:
        def save(connection: Connection) -> None:
            if not tasks.succeed(connection, claim):
                raise LeaseLost
            handler.save(connection, claim, loaded, result)
            if claim.job_id:
                tasks.advance(connection, claim.job_id)
            failpoints.reach(f"{claim.queue}.before_commit")

        try:
            self.database.retrying(save)
            failpoints.reach(f"{claim.queue}.after_commit")
        except LeaseLost:
            # Or its COMMIT went through and the answer was lost; then its results are saved already.
            logger.warning("the task is not ours any more, nothing is saved now", extra=_name("fenced", claim))
        except Exception as error:
            self._end_badly(claim, error)

    def _end_badly(self, claim: Claim, error: Exception) -> None:
        if is_unavailable(error):
            # Nothing can be recorded now. The lease expires and the task comes back.
            raise error
        if isinstance(error, PermanentError):
            logger.warning("%s", error, extra=_name("failed", claim) | {"kind": error.kind})
            kind, reason = error.kind, error.message
            self._end(claim, lambda connection, claim: tasks.fail(connection, claim, kind, reason))
            return
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            error = TransientError(ErrorKind.DISK_FULL, "there is no room left on the worker's disk")
        if not isinstance(error, TransientError):
            logger.error("a defect: %r", error, extra=_name("defect", claim), exc_info=error)
            error = TransientError(
                ErrorKind.INTERNAL,
                f"something went wrong inside Reelmap ({type(error).__name__}: {one_line(error)}); "
                f"the worker's log has the details under task {claim.task_id}",
            )
        else:
            logger.warning("%s", error, extra=_name("try_later", claim) | {"kind": error.kind})
        transient = error
        self._end(
            claim, lambda connection, claim: tasks.try_later(connection, claim, transient, backoff_s=self.backoff_s)
        )

    def _end(self, claim: Claim, move: Callable[[Connection, Claim], bool]) -> None:
        def end(connection: Connection) -> bool:
            moved = move(connection, claim)
            if moved and claim.job_id:
                tasks.advance(connection, claim.job_id)
            return moved

        if not self.database.retrying(end):
            logger.warning("the task is not ours any more, its end is not recorded", extra=_name("fenced", claim))

    @contextmanager
    def _heartbeat(self, claims: list[Claim], handler: Handler[Loaded, Result]) -> Iterator[Work]:
        """Renew the leases of `claims` while the block runs, until the stage's deadline."""
        ended = threading.Event()
        gc(self.work_folder)
        with work_folder(self.work_folder) as folder:
            work = Work(folder, handler.deadline_s, self.stop_grace_s, self.stopping)

            def beat() -> None:
                renew_at = time.monotonic() + self.heartbeat_s
                while not ended.wait(min(LOOK_EVERY_S, self.heartbeat_s)) and work.remaining_s > 0:
                    if work.overdue_s >= CHECK_MARGIN_S:
                        self._give_up(claims, work)
                        return
                    if time.monotonic() < renew_at:
                        continue
                    renew_at = time.monotonic() + self.heartbeat_s
                    try:
                        with self.database.transaction() as connection:
                            ours = tasks.renew(connection, claims, lease_s=self.lease_s)
                    except Exception as error:  # the fence protects us if the lease runs out meanwhile
                        logger.warning("could not renew the lease: %s", one_line(error))
                        continue
                    if not ours:
                        work.lose()
                        return

            thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
            thread.start()
            try:
                yield work
            finally:
                ended.set()
                thread.join()

    def _give_up(self, claims: Sequence[Claim], work: Work) -> None:
        """Hand back the tasks of a computation that does not look up, so that this process may be killed."""
        work.lose()
        for claim in claims:
            logger.info("asked to stop and still computing, handing the task back", extra=_name("handed_back", claim))
            try:
                self._end(claim, tasks.hand_back)
            except Exception as error:  # its lease expires
                logger.warning("could not hand the task back: %s", one_line(error))


def _name(event: str, claim: Claim) -> dict[str, object]:
    return {"event": event, "task_id": claim.task_id, "job_id": claim.job_id, "attempt": claim.attempt}


def _names(event: str, items: Sequence[tuple[Claim, object]]) -> dict[str, object]:
    return _name(event, items[0][0])
