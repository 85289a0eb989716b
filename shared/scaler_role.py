"""The command that makes the database role of whoever starts and stops workers: it reads how much is open, no more.

`python -m shared.scaler_role --password-file FILE` makes the role or sets it right; as often as you like. The role may
log in a few times at once, ask for some seconds, and read the view `open_work`. Needs a database user that may make
roles; where ours may not, the refusal holds the SQL for somebody who may.
"""

from __future__ import annotations

import argparse
import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import encrypt_password

from shared.logs import configure_logging
from shared.settings import load_settings
from shared.startup import Unfit, explained

logger = logging.getLogger(__name__)

ROLE = "reelmap_scaler"
VIEW = "open_work"

#: Each trigger keeps up to two connections, in each of its operator's processes.
CONNECTIONS = 16
#: The view is read every few seconds: a slow answer must not pile up behind the next question.
STATEMENT_TIMEOUT_S = 10

#: What would let a role do more than it is given here.
_POWERS = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")


def statements(schema: str, password: str) -> list[sql.Composed]:
    """What is said to Postgres about a role that is there. password: as text or as Postgres keeps it."""
    names = {"role": sql.Identifier(ROLE), "schema": sql.Identifier(schema), "view": sql.Identifier(schema, VIEW)}
    values = {
        "password": sql.Literal(password),
        "connections": sql.Literal(CONNECTIONS),
        "timeout": sql.Literal(f"{STATEMENT_TIMEOUT_S}s"),
    }
    return [
        sql.SQL(statement).format(**names, **values)
        for statement in (
            "ALTER ROLE {role} LOGIN CONNECTION LIMIT {connections} PASSWORD {password}",
            "ALTER ROLE {role} SET statement_timeout = {timeout}",
            "ALTER ROLE {role} SET idle_in_transaction_session_timeout = {timeout}",
            "ALTER ROLE {role} SET default_transaction_read_only = on",
            "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}",
            "REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}",
            "REVOKE ALL ON SCHEMA {schema} FROM {role}",
            "GRANT USAGE ON SCHEMA {schema} TO {role}",
            "GRANT SELECT ON {view} TO {role}",
        )
    ]


def set_scaler_role(url: str, password: str) -> None:
    """Make the role, or set it right, in the database at `url`; all of it or nothing.

    Raises `Unfit` for a database without the view, for a role of that name that can do more than this, and where our
    user may not make roles.
    """
    connection = psycopg2.connect(
        url.replace("postgresql+psycopg2://", "postgresql://", 1),
        connect_timeout=5,
        application_name="reelmap-scaler-role",
        options="-c statement_timeout=60000 -c lock_timeout=20000",
    )
    try:
        with connection, connection.cursor() as cursor:
            schema = _schema_of_view(cursor)
            try:
                _set_role(cursor, schema, encrypt_password(password, ROLE, connection, "scram-sha-256"))
            except errors.InsufficientPrivilege as error:
                raise Unfit(_for_an_administrator(connection, schema, error)) from error
    finally:
        connection.close()


def _schema_of_view(cursor: Any) -> str:
    cursor.execute("SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass(%s)", (VIEW,))
    found = cursor.fetchone()
    if found is None:
        raise Unfit(f"The database has no view {VIEW}; bring its schema up to date with python -m shared.migrate.")
    return str(found[0])


def _set_role(cursor: Any, schema: str, password: str) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (ROLE,))  # several at once take turns
    cursor.execute(f"SELECT {', '.join(_POWERS)} FROM pg_roles WHERE rolname = %s", (ROLE,))
    found = cursor.fetchone()
    if found is None:
        cursor.execute(sql.SQL("CREATE ROLE {} NOINHERIT").format(sql.Identifier(ROLE)))
    else:
        _check_harmless(cursor, found)
    for statement in statements(schema, password):
        cursor.execute(statement)


def _check_harmless(cursor: Any, powers: Sequence[bool]) -> None:
    cursor.execute(
        "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = %s::regrole UNION ALL "
        "SELECT classid::regclass::text FROM pg_shdepend WHERE refobjid = %s::regrole AND deptype = 'o'",
        (ROLE, ROLE),
    )
    more = [name for name, has in zip(_POWERS, powers, strict=True) if has] + [row[0] for row in cursor.fetchall()]
    if more:
        raise Unfit(
            f"There is a role {ROLE} already, and it can do more than read {VIEW}: {', '.join(more)}. "
            f"Drop it (DROP OWNED BY {ROLE}; DROP ROLE {ROLE}) and start this again."
        )


def _for_an_administrator(connection: Any, schema: str, error: Exception) -> str:
    say = [sql.SQL("CREATE ROLE {} NOINHERIT").format(sql.Identifier(ROLE)), *statements(schema, "THE PASSWORD")]
    script = "\n".join(f"{statement.as_string(connection)};" for statement in say)
    reason = str(error).splitlines()[0]
    return (
        f"The database user of Reelmap may not make roles ({reason}). Let somebody who may do it, in this database, "
        f"without the first line where the role is there:\n{textwrap.indent(script, '    ')}"
    )


@explained()
def main(arguments: Sequence[str] | None = None) -> None:
    """Exit with 0 when the role is as it should be, with 2 and what to do when it cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.scaler_role", description=f"Make the role {ROLE}, which may read {VIEW} and no more."
    )
    parser.add_argument("--password-file", type=Path, required=True, help="what the role is to log in with")
    asked = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging("scaler_role", settings.log_level)
    settings.require("database_url")
    try:
        password = asked.password_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unfit(f"The password cannot be read from {asked.password_file}: {error}") from None
    if not password:
        raise Unfit(f"The file {asked.password_file} is empty; it must hold the role's password.")
    try:
        set_scaler_role(settings.database_url, password)
    except psycopg2.OperationalError as error:
        raise Unfit(f"The database does not answer: {str(error).splitlines()[0]}") from error
    logger.info("the role %s may read %s", ROLE, VIEW, extra={"event": "scaler_role_set"})


if __name__ == "__main__":
    main()
