"""A seeded mix of faults over jobs that keep coming; at its end no key frame, vector or cluster is lost or doubled.

The same seed injects the same faults at the same seconds, and submits the same jobs in the same order. Which process is
running when it is to be killed, and how many jobs are done by then, is the machine's.
"""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import requests

from services.client import FINAL_STATES
from tests.faults.installation import Broken, wait_for
from tests.faults.scene import GOOD, MIXED, PROCESSES, WORKERS, Scene

#: Between two looks at what there is to do.
TICK_S = 0.25
#: Of jobs that are not final, at most: the machine's speed must not decide how long the end takes.
MOST_OPEN_JOBS = 6


@dataclass
class Soak:
    """One soak. say: prints one line.

    chance: what the fault at hand is left to; each fault and each job has its own, drawn from the seed and its number.
    """

    scene: Scene
    seed: int
    say: Callable[[str], None]
    chance: random.Random = field(default_factory=random.Random)
    jobs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    _pending: dict[str, tuple[list[str], tuple[str, ...]]] = field(default_factory=dict)
    _later: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    _began_at: float = field(default_factory=time.monotonic)

    def run(self, minutes: float) -> str:
        """Inject for so long, let everything come to its end, compare. Returns a summary. Raises `Broken`."""
        for number, (at_s, fault) in enumerate(plan(self.seed, minutes)):
            while time.monotonic() < self._began_at + at_s:
                self._do_what_is_due()
                self._submit()
                time.sleep(TICK_S)
            self.chance = random.Random(f"{self.seed} fault {number}")
            self.faults[fault] += 1
            getattr(self, fault)()
        return self._end()

    # --- Jobs

    def _submit(self) -> None:
        """Send a new job now and then, and again those that had no answer, each under its own key."""
        if len(self._pending) < 3 and self._open_jobs() < MOST_OPEN_JOBS:
            chance = random.Random(f"{self.seed} job {len(self.jobs) + len(self._pending)}")
            names = chance.choice([GOOD, GOOD, GOOD[:1], MIXED])
            slow_s = chance.choice([0, 0, 2, 5])
            self._pending[uuid.uuid4().hex] = (self.scene.urls(names, slow_s=slow_s), names)
        for key, (urls, names) in list(self._pending.items()):
            if (job_id := self._post(key, urls)) is not None:
                self.jobs[job_id] = names
                del self._pending[key]

    def _post(self, key: str, urls: list[str]) -> str | None:
        body = {"videos": urls, "models": ["hog_color"], "clustering": {"n_clusters": 4, "seed": 7}}
        url = f"http://127.0.0.1:{self.scene.installation.port}/api/v1/jobs"
        with requests.Session() as session:
            session.trust_env = False
            try:
                answer = session.post(url, json=body, headers={"Idempotency-Key": key}, timeout=(2, 15))
            except requests.exceptions.RequestException:
                return None
        if answer.status_code == 202:
            return str(answer.json()["id"])
        if answer.status_code != 503:
            raise Broken(f"the API answered {answer.status_code}: {answer.text[:300]}")
        return None

    def _open_jobs(self) -> int:
        try:
            return int(self.scene.installation.one("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"))
        except Exception:  # Postgres is away: no time for new jobs
            return MOST_OPEN_JOBS

    # --- Faults

    def _tell(self, what: str) -> None:
        self.say(f"{time.monotonic() - self._began_at:7.1f} s  {what}")

    def _in(self, seconds: float, act: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + seconds, act))

    def _do_what_is_due(self, *, all_of_it: bool = False) -> None:
        due = [entry for entry in self._later if all_of_it or entry[0] <= time.monotonic()]
        self._later = [entry for entry in self._later if entry not in due]
        for _, act in sorted(due, key=lambda entry: entry[0]):
            act()

    def _pick(self, names: tuple[str, ...]) -> str | None:
        """One of the processes that run; None when there is none."""
        running = [name for name in names if name in self.scene.installation.members]
        running = [name for name in running if self.scene.installation.is_running(name)]
        return self.chance.choice(running) if running else None

    def _start_again(self, name: str) -> None:
        installation = self.scene.installation
        if name not in installation.members or not installation.is_running(name):
            # Not waited for: a server that it needs may be away.
            installation.start(name, wait=False)

    def fault_kill_a_child(self) -> None:
        if (name := self._pick(WORKERS)) and (children := self.scene.installation.members[name].children()):
            self._tell(f"kill -9 a child of {name}")
            with suppress(ProcessLookupError):
                os.kill(self.chance.choice(children), signal.SIGKILL)

    def fault_kill_a_process(self) -> None:
        if name := self._pick(PROCESSES):
            self._tell(f"kill -9 {name}")
            self.scene.installation.end(name, signal.SIGKILL)
            self._in(self.chance.uniform(0, 4), lambda: self._start_again(name))

    def fault_stop_a_worker(self) -> None:
        if name := self._pick(WORKERS):
            self._tell(f"SIGTERM {name}")
            member = self.scene.installation.members[name]
            member.signal(signal.SIGTERM)

            def replace() -> None:
                if self.scene.installation.members.get(name) is member:
                    self.scene.installation.end(name, signal.SIGKILL)
                    self._start_again(name)

            self._in(self.chance.uniform(1, 10), replace)

    def fault_freeze_a_worker(self) -> None:
        if name := self._pick(WORKERS):
            seconds = self.chance.uniform(0.5, 2 * self.scene.timing.lease_s)
            self._tell(f"SIGSTOP {name} for {seconds:.1f} s")
            member = self.scene.installation.members[name]
            member.signal_all(signal.SIGSTOP)

            def thaw() -> None:
                if self.scene.installation.members.get(name) is member:
                    member.signal_all(signal.SIGCONT)

            self._in(seconds, thaw)

    def fault_restart_redis(self) -> None:
        redis = self.scene.installation.redis
        if not self._is_up("redis"):
            return
        seconds = self.chance.uniform(0, 8)
        self._tell(f"Redis is killed and away for {seconds:.1f} s")
        self.scene.installation.crash(redis)
        self._in(seconds, redis.start)

    def fault_wipe_redis(self) -> None:
        if self._is_up("redis"):
            self._tell("FLUSHALL")
            with self.scene.installation.broker() as broker:
                broker.flushall()

    def fault_restart_postgres(self) -> None:
        if not self._is_up("postgres"):
            return
        seconds = self.chance.uniform(0, 5)
        self._tell(f"Postgres is killed and away for {seconds:.1f} s")
        self.scene.installation.crash(self.scene.installation.postgres)
        self._in(seconds, self.scene.installation.postgres.start)

    def _is_up(self, server: str) -> bool:
        process = getattr(self.scene.installation, server).process
        return process is not None and process.poll() is None

    def fault_disturb_a_link(self) -> None:
        server = self.chance.choice(["postgres", "redis"])
        mode = self.chance.choice(["cut", "silent", "pass"])
        delay_s = self.chance.uniform(0.01, 0.3) if mode == "pass" else 0.0
        seconds = self.chance.uniform(0.5, 8)
        if name := self._pick(PROCESSES):
            self._tell(f"{name} to {server}: {mode if mode != 'pass' else f'{delay_s:.2f} s late'} for {seconds:.1f} s")
            self.scene.installation.cut(server, name, mode=mode, delay_s=delay_s)
            self._in(seconds, lambda: self._heal(server, name))

    def _heal(self, server: str, name: str) -> None:
        if name in self.scene.installation.members:
            self.scene.installation.heal(server, name)

    def fault_reach_a_point(self) -> None:
        queue = self.chance.choice(["keyframes", "embedding", "clustering"])
        place = self.chance.choice(["claimed", "computing", "before_commit", "after_commit", "before_acknowledgement"])
        point = self.chance.choice(
            [f"{queue}.{place}"] * 4 + ["dispatcher.after_publish", "api.after_commit", "blobs.put"]
        )
        do = "io_error" if point == "blobs.put" else "kill"
        self._tell(f"{do} at {point}")
        self.scene.installation.order(point, do)
        self._in(10, lambda: self._after_point(point))

    def _after_point(self, point: str) -> None:
        (self.scene.installation.failpoints / point).unlink(missing_ok=True)
        if point.startswith("dispatcher"):
            self._start_again("dispatcher")

    # --- The end

    def _end(self) -> str:
        """Everything runs again; what used up its attempts is tried again as a person would; nothing may be missing."""
        installation, timing = self.scene.installation, self.scene.timing
        self._do_what_is_due(all_of_it=True)
        installation.forget_orders()
        for server in ("postgres", "redis"):
            installation.heal(server)
        for name in PROCESSES:
            self._start_again(name)
        wait_for(lambda: installation.answers("/readyz"), for_s=60, what="the API to be ready")
        self._tell("no more faults; waiting for the end of every job")
        patience_s = 2 * timing.patience_s
        wait_for(lambda: self._submit() or not self._pending, for_s=60, what="an answer to every submission")
        wait_for(
            lambda: all(installation.state_of(job_id) in FINAL_STATES for job_id in self.jobs),
            for_s=patience_s,
            what=lambda: str([installation.describe(job_id) for job_id in self.jobs]),
        )
        given_up = [
            row.job_id
            for row in installation.rows(
                """SELECT DISTINCT job_id FROM tasks WHERE state = 'failed' AND attempt >= 3
                AND error_kind IN ('worker_lost', 'store_unavailable', 'unreachable', 'internal', 'disk_full')"""
            )
        ]
        for job_id in given_up:
            installation.client.retry(job_id)
        for job_id, names in self.jobs.items():
            self.scene.finish(job_id, names)
        made = installation.one("SELECT count(*) FROM jobs")
        expected = len(self.jobs) + len(self.scene.references)
        if made != expected:
            raise Broken(f"{made} jobs exist, {expected} were accepted")
        self.scene.settle()
        rows = installation.rows(
            """SELECT (SELECT count(*) FROM tasks) AS tasks, (SELECT sum(attempt) FROM tasks) AS attempts,
            (SELECT count(*) FROM key_frames) AS key_frames, (SELECT count(*) FROM embeddings) AS vectors,
            (SELECT count(*) FROM assignments) AS assignments"""
        )[0]
        return (
            f"{len(self.jobs)} jobs, {self.faults.total()} faults, {rows.tasks} tasks in {rows.attempts} attempts, "
            f"{rows.key_frames} key frames, {rows.vectors} vectors, {rows.assignments} assignments; "
            "none lost or doubled; "
            f"{len(given_up)} jobs used up the attempts of a task and were tried again by hand"
        )


def plan(seed: int, minutes: float) -> list[tuple[float, str]]:
    """(second, fault) from the beginning to the end, in order: one every one to eight seconds."""
    chance = random.Random(f"{seed} plan")
    kinds = sorted(name for name in dir(Soak) if name.startswith("fault_"))
    planned, at_s = [], 2.0
    while at_s < 60 * minutes:
        planned.append((at_s, chance.choice(kinds)))
        at_s += chance.uniform(1, 8)
    return planned
