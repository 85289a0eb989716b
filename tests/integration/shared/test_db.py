"""Connections: one engine per process, and patience while the server is away."""

from __future__ import annotations

import os

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from shared.db import Database, is_conflict, is_contended, is_passing, is_unavailable, login_refusal


def test_the_driver_is_psycopg2(database):
    assert database.engine.dialect.driver == "psycopg2"


def test_ids_are_text(rows):
    assert isinstance(rows.one("SELECT id FROM projects"), str)
    assert isinstance(rows.one("SELECT ARRAY[id] FROM projects")[0], str)


def test_a_forked_child_gets_connections_of_its_own(database):
    with database.transaction() as connection:
        parents = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with database.transaction() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        os.write(write, str(pid).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 100)) != parents
    with database.transaction() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_unit_is_run_again_when_its_connection_was_cut(database):
    tries = []

    def unit(connection):
        tries.append(1)
        if len(tries) == 1:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return connection.execute(text("SELECT 42")).scalar()

    assert database.retrying(unit) == 42
    assert len(tries) == 2


def test_a_mistake_in_a_statement_is_not_repeated(database):
    tries = []

    def unit(connection):
        tries.append(1)
        connection.execute(text("SELECT nonsense FROM nowhere"))

    with pytest.raises(ProgrammingError):
        database.retrying(unit)
    assert len(tries) == 1


def test_patience_ends(tmp_path):
    nowhere = Database(f"postgresql+psycopg2://reelmap@/reelmap?host={tmp_path}")
    with pytest.raises(OperationalError) as error:
        nowhere.retrying(lambda connection: None, for_s=0.3)
    assert is_unavailable(error.value)


@pytest.mark.parametrize(
    ("code", "is_"),
    [
        ("53100", {is_unavailable, is_passing}),  # its disk is full
        ("53300", {is_unavailable, is_passing}),  # too many connections
        ("57P01", {is_unavailable, is_passing}),  # it is being shut down
        ("40P01", {is_conflict, is_contended, is_passing}),  # a deadlock
        ("40001", {is_conflict, is_contended, is_passing}),  # two transactions that cannot both be true
        ("55P03", {is_contended, is_passing}),  # a lock that took too long
        ("57014", {is_contended, is_passing}),  # a statement that took too long
        ("23505", set()),  # a unique constraint
        ("42601", set()),  # no SQL
    ],
)
def test_what_may_go_better_later(rows, code, is_):
    with pytest.raises(DBAPIError) as caught:
        rows.do(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
    kinds = (is_unavailable, is_contended, is_conflict, is_passing)
    assert {kind for kind in kinds if kind(caught.value)} == is_


def test_what_only_others_prevented_is_done_again_and_nothing_else_is(rows, database):
    """As the API asks for it: a connection that broke may have broken after the commit."""
    tries = []

    def failing_with(code):
        def unit(connection):
            tries.append(code)
            if len(tries) == 1:
                connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$"))
            return "done"

        return unit

    assert database.retrying(failing_with("40P01"), after=is_conflict) == "done"
    assert tries == ["40P01"] * 2
    tries.clear()
    with pytest.raises(DBAPIError):
        database.retrying(failing_with("57P01"), after=is_conflict)
    assert tries == ["57P01"]


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        # As Postgres 16 and 17 and libpq say it.
        ('FATAL:  password authentication failed for user "reelmap"', True),
        ('FATAL:  Peer authentication failed for user "reelmap"', True),
        ("fe_sendauth: no password supplied", True),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "reelmap", database "reelmap", no encryption', True),
        ('FATAL:  pg_hba.conf rejects connection for host "10.0.0.7", user "reelmap", database "reelmap"', True),
        ("FATAL:  no such database: nowhere", True),  # PgBouncer
        ('FATAL:  role "nobody" does not exist', True),
        ('FATAL:  role "reader" is not permitted to log in', True),
        ('FATAL:  database "nowhere" does not exist', True),
        ("FATAL:  the database system is starting up", False),
        ('FATAL:  LDAP authentication failed for user "reelmap"', False),  # its directory may be away
        ("FATAL:  sorry, too many clients already", False),
        ("Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?", False),
    ],
)
def test_who_is_not_let_in(said, refused):
    error = OperationalError(
        "", {}, psycopg2.OperationalError(f'connection to server at "db", port 5432 failed: {said}')
    )
    assert (login_refusal(error) is not None) is refused
    assert is_passing(error), "work that is under way tries again: passwords are changed while it runs"


def test_of_many_addresses_the_one_that_refused_is_told():
    error = psycopg2.OperationalError(
        'connection to server at "localhost" (::1), port 5432 failed: Connection refused\n\tIs the server running?\n'
        'connection to server at "localhost" (127.0.0.1), port 5432 failed: FATAL:  password authentication failed for '
        'user "reelmap"\n'
    )
    assert login_refusal(OperationalError("", {}, error)) == (
        'connection to server at "localhost" (127.0.0.1), port 5432 failed: FATAL: password authentication failed for '
        'user "reelmap"'
    )


def test_what_is_missing_inside_the_database_is_no_refused_login(rows):
    with pytest.raises(DBAPIError) as caught:
        rows.do("SET ROLE nobody")
    assert login_refusal(caught.value) is None
