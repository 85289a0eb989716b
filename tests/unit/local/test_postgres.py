"""EmbeddedPostgres: starts, keeps what was committed, and says what is wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time

import psycopg2
import pytest

from services.local.guard import Guard
from services.local.postgres import EmbeddedPostgres
from shared.errors import PermanentError


@contextlib.contextmanager
def cursor_of(url):
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


@pytest.fixture
def server(guard, tmp_path):
    server = EmbeddedPostgres(tmp_path / "postgres", guard, durable=False)
    yield server
    server.stop()


def test_the_database_has_pgvector_and_speaks_utf8(postgres_server):
    with cursor_of(postgres_server.url()) as cursor:
        cursor.execute("SELECT '[1,2]'::vector <-> '[1,0]'::vector, 'ß→'::text, current_setting('server_encoding')")
        assert cursor.fetchone() == (2.0, "ß→", "UTF8")


def test_the_url_names_its_driver_and_a_socket_only_its_owner_reaches(postgres_server):
    url = postgres_server.url()
    assert url.startswith("postgresql+psycopg2://")
    folder = url.partition("host=")[2]
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    with cursor_of(url) as cursor:
        cursor.execute("SHOW listen_addresses")
        assert cursor.fetchone() == ("",)


def test_data_survives_stop_and_start(server):
    with cursor_of(server.start()) as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 7 AS x")
    server.stop()
    with cursor_of(server.start()) as cursor:
        cursor.execute("SELECT x FROM kept")
        assert cursor.fetchone() == (7,)


def test_after_a_kill_the_same_url_answers_again_with_the_data(guard, server):
    url = server.start()
    with cursor_of(url) as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 7 AS x")
    guard.kill(server.process)
    assert server.start() == url
    with cursor_of(url) as cursor:
        cursor.execute("SELECT x FROM kept")
        assert cursor.fetchone() == (7,)


def test_a_process_that_a_stale_pid_file_names_is_left_alone(guard, server, tmp_path):
    server.start()
    pid_file = tmp_path / "postgres/data/postmaster.pid"
    left_behind = pid_file.read_text()
    server.stop()
    with subprocess.Popen(["sleep", "60"]) as foreign:
        pid_file.write_text(left_behind.replace(left_behind.split("\n")[0], str(foreign.pid), 1))
        server.start()
        assert foreign.poll() is None
        foreign.kill()


def test_a_second_server_on_the_same_data_is_refused_by_name(guard, server, tmp_path, monkeypatch):
    server.start()
    monkeypatch.setattr("services.local.postgres.STOP_TIMEOUT_S", 0.1)
    with pytest.raises(PermanentError, match=rf"in use by Postgres \(started by process {os.getpid()}\)"):
        EmbeddedPostgres(tmp_path / "postgres", guard).start()


def test_data_of_another_major_version_is_refused_with_the_way_out(server, tmp_path):
    (tmp_path / "postgres/data").mkdir(parents=True)
    (tmp_path / "postgres/data/PG_VERSION").write_text("16\n")
    with pytest.raises(PermanentError, match=r"written by Postgres 16, and this is Postgres 18.*reelmap backup"):
        server.start()


def test_half_a_data_folder_from_a_killed_first_start_is_made_anew(server, tmp_path):
    (tmp_path / "postgres/data.new/base").mkdir(parents=True)
    server.start()


def test_a_server_that_cannot_start_says_what_its_log_says(server, tmp_path):
    server.start()
    server.stop()
    (tmp_path / "postgres/data/postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PermanentError, match="no_such_setting"):
        server.start()


def test_a_killed_owner_takes_the_server_along_and_the_data_stay(tmp_path, is_running):
    script = (
        "import sys, time, pathlib; from services.local.guard import Guard; "
        "from services.local.postgres import EmbeddedPostgres; guard = Guard(); "
        "server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), guard, durable=False); server.start(); "
        "print(server.process.pid, flush=True); time.sleep(60)"
    )
    folder = tmp_path / "postgres"
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE) as owner:
        server_pid = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
    with Guard() as guard:
        server = EmbeddedPostgres(folder, guard, durable=False)
        server.start()  # waits for the other one's end
        assert not is_running(server_pid)
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
def test_as_root_the_data_may_lie_where_the_unprivileged_user_cannot_go(guard, tmp_path):
    tmp_path.chmod(0o700)
    folder = tmp_path / "closed" / "postgres"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    server = EmbeddedPostgres(folder, guard, durable=False)
    started_at = time.monotonic()
    server.start()
    assert os.stat(f"/proc/{server.process.pid}").st_uid != 0
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert time.monotonic() - started_at < 20
    server.stop()


def test_a_start_that_failed_leaves_no_socket_folder(server, tmp_path):
    server.start()
    server.stop()
    (tmp_path / "postgres/data/postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PermanentError):
        server.start()
    assert not (tmp_path / "postgres/run").is_symlink()
