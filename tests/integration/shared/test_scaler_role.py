"""The role of who starts and stops workers reads how much is open, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2 import errors
from sqlalchemy.engine import make_url

from shared.pipeline import Queue
from shared.scaler_role import CONNECTIONS, ROLE, VIEW, set_scaler_role
from shared.startup import EXIT_REFUSED, Unfit

PASSWORD = 'it\'s \\ "odd" %s ü'  # pragma: allowlist secret


@pytest.fixture
def url(database_url) -> Iterator[str]:
    """A migrated database; the role, which all databases of the server share, is gone before and after."""
    _run(database_url, f"DROP ROLE IF EXISTS {ROLE}")
    yield database_url
    _run(database_url, f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def connect(url: str, user: str | None = None):
    changed = make_url(url).set(drivername="postgresql")
    if user:
        changed = changed.set(username=user, password=PASSWORD)
    return psycopg2.connect(changed.render_as_string(hide_password=False))


def _run(url: str, statement: str) -> None:
    connection = connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


@pytest.fixture
def cursor(url) -> Iterator[psycopg2.extensions.cursor]:
    """Of the role, after it was made twice."""
    set_scaler_role(url, "the first password")
    set_scaler_role(url, PASSWORD)
    connection = connect(url, ROLE)
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


def test_it_reads_how_much_is_open(cursor, rows):
    rows.job(sources=3, host="a.example")
    cursor.execute(f"SELECT queue, tasks, hosts FROM {VIEW} ORDER BY queue")
    counts = {queue: (tasks, hosts) for queue, tasks, hosts in cursor.fetchall()}
    assert counts == {**dict.fromkeys(Queue, (0, 0)), Queue.KEYFRAMES: (3, 1)}


def test_it_reads_nothing_else(cursor, rows):
    others = [
        row.name
        for row in rows.all("SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                            "AND relkind IN ('r', 'v', 'm', 'S', 'f', 'p')")
        if row.name != VIEW
    ]  # fmt: skip
    assert len(others) > 10
    for name in others:
        with pytest.raises(errors.InsufficientPrivilege):
            cursor.execute(f'SELECT * FROM "{name}"')


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM {VIEW}",
        "INSERT INTO tasks DEFAULT VALUES",
        "CREATE TABLE mine (a int)",
        "CREATE TEMP TABLE mine (a int)",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CREATE ROLE other",
        "SELECT pg_read_file('PG_VERSION')",
    ],
)
def test_it_changes_nothing(cursor, statement):
    with pytest.raises(
        (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction, errors.ObjectNotInPrerequisiteState)
    ):
        cursor.execute(statement)


def test_it_is_bounded(cursor, rows):
    cursor.execute("SELECT current_setting('statement_timeout'), current_setting('default_transaction_read_only')")
    assert cursor.fetchone() == ("10s", "on")
    assert rows.one("SELECT rolconnlimit FROM pg_roles WHERE rolname = :role", role=ROLE) == CONNECTIONS
    assert str(rows.one("SELECT rolpassword FROM pg_authid WHERE rolname = :role", role=ROLE)).startswith(
        "SCRAM-SHA-256$"
    )


def test_what_it_was_given_by_mistake_is_taken_back(url):
    set_scaler_role(url, PASSWORD)
    _run(url, f"GRANT SELECT ON api_keys TO {ROLE}")
    set_scaler_role(url, PASSWORD)
    connection = connect(url, ROLE)
    with connection.cursor() as cursor, pytest.raises(errors.InsufficientPrivilege):
        cursor.execute("SELECT * FROM api_keys")
    connection.close()


@pytest.mark.parametrize("power", ["SUPERUSER", "CREATEROLE", "IN ROLE pg_read_all_data"])
def test_a_role_that_can_do_more_is_refused(url, power):
    _run(url, f"CREATE ROLE {ROLE} {power}")
    with pytest.raises(Unfit, match="it can do more than read open_work"):
        set_scaler_role(url, PASSWORD)


def test_a_user_who_may_not_make_roles_is_told_the_sql_for_an_administrator(url):
    _run(url, f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
    try:
        plain = make_url(url).set(username="plain", password=PASSWORD).render_as_string(hide_password=False)
        with pytest.raises(Unfit) as refused:
            set_scaler_role(plain, PASSWORD)
    finally:
        _run(url, "DROP ROLE plain")
    said = str(refused.value)
    assert "may not make roles" in said and PASSWORD not in said
    script = said.partition("\n")[2]
    _run(url, script)  # what it says works
    assert script.count("THE PASSWORD") == 1


def test_a_database_without_the_view_is_told_to_be_migrated(postgres_server):
    empty = postgres_server.create_database("no_view")
    try:
        with pytest.raises(Unfit, match="bring its schema up to date"):
            set_scaler_role(empty, PASSWORD)
    finally:
        postgres_server.drop_database("no_view")


def test_the_command(url, tmp_path):
    (tmp_path / "password").write_text(PASSWORD + "\n")
    command = [sys.executable, "-m", "shared.scaler_role", "--password-file"]
    environ = {"REELMAP_DATABASE_URL": url}
    done = subprocess.run([*command, tmp_path / "password"], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    connect(url, ROLE).close()

    (tmp_path / "empty").touch()
    for file, words in (("empty", "is empty"), ("missing", "cannot be read")):
        ended = subprocess.run([*command, tmp_path / file], capture_output=True, text=True, env=environ)
        assert ended.returncode == EXIT_REFUSED
        assert words in ended.stderr
