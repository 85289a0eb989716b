"""Supervisor: everything starts, stays up, stops in order, and a kill -9 leaves neither processes nor losses."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import psycopg2
import pytest

from services.local.supervisor import Child, Supervisor
from shared.errors import PermanentError

# Appends its name when it is asked to stop; has a child of its own; says who it is.
WORKER = """
import os, signal, sys, time
name, journal = sys.argv[1:]
def stop(*_):
    open(journal, "a").write(name + " stopped\\n")
    raise SystemExit
signal.signal(signal.SIGTERM, stop if name != "deaf" else signal.SIG_IGN)
child = os.fork()
if child:
    print("pids", os.getpid(), child, flush=True)
time.sleep(120)
"""

SCRIPT = """
import sys
from pathlib import Path
from services.local.supervisor import Child, Supervisor

folder, journal, worker, *names = sys.argv[1:]

def migrate(url):
    import psycopg2
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS starts (at timestamptz DEFAULT now())")
        cursor.execute("INSERT INTO starts DEFAULT VALUES")
        cursor.execute("SELECT count(*) FROM starts")
        print("starts", cursor.fetchone()[0], flush=True)
    connection.close()

def children(database_url, redis_url):
    return [Child(name, (sys.executable, "-c", worker, name, journal)) for name in names]

supervisor = Supervisor(Path(folder), migrate=migrate, children=children, say=lambda line: print(line, flush=True),
                        durable=False)
supervisor.run(lambda: print("ready", flush=True))
"""


@pytest.fixture
def up(tmp_path):
    """Starts the script with workers of the given names; gives the process and the lines it had said by then."""
    started = []

    def up(*names):
        argv = [sys.executable, "-c", SCRIPT, tmp_path / "data", tmp_path / "journal", WORKER, *names]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        said = []
        while not said or said[-1] not in ("ready\n", ""):
            said.append(process.stdout.readline())
        return process, "".join(said)

    yield up
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    with contextlib.suppress(FileNotFoundError):  # what the next start would clean up after a kill
        shutil.rmtree((tmp_path / "data/postgres/run").readlink(), ignore_errors=True)


@pytest.fixture
def all_pids(tmp_path, eventually):
    """The servers' and the workers' process numbers, and those of the workers' children."""

    def all_pids(*names):
        pids = [int((tmp_path / "data/postgres/data/postmaster.pid").read_text().split()[0])]
        pids.append(int(re.findall(r"^(\d+):", (tmp_path / "data/logs/redis.log").read_text(), re.M)[-1]))
        for name in names:
            log = tmp_path / f"data/logs/{name}.log"
            assert eventually(lambda log=log: log.exists() and log.read_text().endswith("\n"))
            pids += map(int, log.read_text().splitlines()[-1].split()[1:])
        return pids

    return all_pids


@pytest.fixture
def supervised(tmp_path):
    """Makes a supervisor in this process, and what it said."""
    made = []

    def supervised(*children):
        said = []
        made.append(
            Supervisor(
                tmp_path / "data",
                migrate=lambda url: None,
                children=lambda database_url, redis_url: children,
                say=said.append,
                durable=False,
            )
        )
        made[-1].start()
        return made[-1], said

    yield supervised
    for supervisor in made:
        supervisor.stop()
        supervisor.close()


def child(name, code, **more):
    return Child(name, (sys.executable, "-c", code), **more)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_the_processes_in_order_then_the_servers(number, up, all_pids, tmp_path, is_running):
    process, _ = up("api", "dispatcher", "embedding")
    pids = all_pids("api", "dispatcher", "embedding")
    process.send_signal(number)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said == "stopping; once more to kill\n"
    assert sorted((tmp_path / "journal").read_text().split("\n")) == [
        "", "api stopped", "dispatcher stopped", "embedding stopped",
    ]  # fmt: skip
    assert not any(map(is_running, pids))
    assert "database system is shut down" in (tmp_path / "data/logs/postgres.log").read_text()


def test_interrupted_twice_it_kills_what_is_deaf(up, all_pids, is_running, eventually):
    process, _ = up("deaf")
    pids = all_pids("deaf")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "stopping; once more to kill\n"
    asked_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert time.monotonic() - asked_at < 12  # a deaf child alone would take 15 s
    assert eventually(lambda: not any(map(is_running, pids)))


def test_after_a_kill_nothing_runs_on_and_the_next_start_has_the_data(up, all_pids, is_running, eventually):
    process, said = up("embedding", "deaf")
    assert "starts 1\n" in said
    pids = all_pids("embedding", "deaf")
    assert all(map(is_running, pids))
    process.kill()
    process.communicate()
    _, said = up("embedding")  # at once: it waits for the old servers' end
    assert "starts 2\n" in said
    assert eventually(lambda: not any(map(is_running, pids)))


def test_a_second_one_in_the_same_folder_is_told_which_process_is_there(supervised):
    supervised()
    with pytest.raises(PermanentError, match=rf"in use by another Reelmap \(started by process {os.getpid()}\)"):
        supervised()


def test_a_process_that_runs_once_is_not_missed(supervised, tmp_path, monkeypatch):
    monkeypatch.setattr("services.local.supervisor.FIRST_RESTART_DELAY_S", 0.05)
    journal = tmp_path / "journal"
    supervisor, said = supervised(
        child("models", f"open({str(journal)!r}, 'a').write('started '); raise SystemExit(7)", once=True)
    )
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        supervisor.watch()
        time.sleep(0.05)
    assert (journal.read_text(), said) == ("started ", [])


def test_a_process_that_ends_is_started_again_after_a_growing_while(supervised, tmp_path, monkeypatch, eventually):
    monkeypatch.setattr("services.local.supervisor.FIRST_RESTART_DELAY_S", 0.05)
    journal = tmp_path / "journal"
    supervisor, said = supervised(
        child("clustering", f"open({str(journal)!r}, 'a').write('started '); raise SystemExit(7)")
    )

    def three_starts():
        supervisor.watch()
        return journal.exists() and journal.read_text().count("started") >= 3

    assert eventually(three_starts)
    assert said[0].startswith("clustering ended with exit code 7; starting it again in ")
    assert str(tmp_path / "data/logs/clustering.log") in said[0]
    delays_s = [float(re.search(r"again in (\S+) s", line)[1]) for line in said[:2]]
    assert delays_s[1] == 2 * delays_s[0]


def test_what_a_process_said_before_it_ended_is_told(supervised, tmp_path, eventually):
    log = tmp_path / "data/logs/api.log"
    supervisor, said = supervised(child("api", "print('first'); raise SystemExit('the \x1b[1mport is taken')"))

    def has_ended():
        supervisor.watch()
        return said

    assert eventually(has_ended)
    assert said == [
        f"api ended with exit code 1, saying: the [1mport is taken; starting it again in 1 s (its output: {log})"
    ]


def test_a_log_that_somebody_removed_ends_nothing(supervised, tmp_path, eventually):
    log = tmp_path / "data/logs/api.log"
    supervisor, said = supervised(child("api", f"import os; os.unlink({str(log)!r}); raise SystemExit(1)"))

    def has_ended():
        supervisor.watch()
        return said

    assert eventually(has_ended)
    assert said == [f"api ended with exit code 1; starting it again in 1 s (its output: {log})"]


# Answers one connection with its own number, and ends.
ANSWERER = """
import os, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
connection, _ = listener.accept()
connection.sendall(str(os.getpid()).encode())
connection.close()
"""


def test_a_port_stays_ours_while_its_process_starts_again_and_who_connects_waits(supervised, monkeypatch, eventually):
    monkeypatch.setattr("services.local.supervisor.FIRST_RESTART_DELAY_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        argv = (sys.executable, "-c", ANSWERER, str(listener.fileno()))
        supervisor, said = supervised(Child("api", argv, listener=listener))

        def three_ends():
            supervisor.watch()
            return len(said) >= 3

        address = listener.getsockname()
        clients = [socket.create_connection(address, timeout=10) for _ in range(3)]
        assert eventually(three_ends)
        answers = [client.recv(100) for client in clients]
        assert len({*answers, b""}) == 4, "three processes answered, one after the other"
        for client in clients:
            client.close()
        supervisor.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=10)


def test_a_server_that_is_killed_comes_back_at_the_same_url(supervised, tmp_path, monkeypatch, eventually):
    urls = []
    supervisor = Supervisor(
        tmp_path / "other",
        migrate=urls.append,
        children=lambda *_: [],
        say=lambda line: None,
        durable=False,
    )
    with supervisor:
        supervisor.start()
        pid_file = tmp_path / "other/postgres/data/postmaster.pid"
        first_pid = int(pid_file.read_text().split()[0])
        os.kill(first_pid, signal.SIGKILL)

        def is_back():
            supervisor.watch()
            return pid_file.exists() and int(pid_file.read_text().split()[0]) != first_pid

        assert eventually(is_back)
        psycopg2.connect(urls[0].replace("+psycopg2", "")).close()


def test_a_process_gets_our_environment_and_its_own_variables(supervised, tmp_path, eventually):
    log = tmp_path / "data/logs/api.log"
    supervised(
        child("api", "import os; print(os.environ['PORT'], 'PATH' in os.environ)", env={"PORT": "8000"}),
    )
    assert eventually(lambda: log.read_text() == "8000 True\n")


def test_a_large_log_is_set_aside_at_the_start(supervised, tmp_path, monkeypatch):
    monkeypatch.setattr("services.local.supervisor.MAX_LOG_BYTES", 10)
    (tmp_path / "data/logs").mkdir(parents=True)
    (tmp_path / "data/logs/api.log").write_text("something of long ago")
    supervised(child("api", "pass"))
    assert (tmp_path / "data/logs/api.log.1").read_text() == "something of long ago"
