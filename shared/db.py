"""Connections to Postgres: an engine per process, made on first use, and transactions.

Pooled connections never cross a fork: engines are kept by process id (SQLAlchemy, "Using connection pools with
multiprocessing").
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
import psycopg2.extensions
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

logger = logging.getLogger(__name__)

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One database, for one process and the processes that it forks.

    url: `postgresql+psycopg2://…`; pool_size: connections kept (the API keeps more than a worker);
    application_name: what `pg_stat_activity` shows. patience_s: how long to wait for a free connection, for a new
    one, and for a network that says nothing; when left out, as long as background work can.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 1,
        max_overflow: int = 1,
        application_name: str = "",
        patience_s: int | None = None,
    ) -> None:
        self.url = url
        self._pool_size = pool_size
        self._max_overflow = max_overflow
        self._application_name = application_name or "reelmap"
        self._patience_s = patience_s
        self._engines: dict[int, Engine] = {}

    @property
    def engine(self) -> Engine:
        """This process's engine."""
        pid = os.getpid()
        if pid not in self._engines:
            for inherited in self._engines.values():
                inherited.dispose(close=False)
            self._engines = {pid: self._create_engine()}
        return self._engines[pid]

    def _create_engine(self) -> Engine:
        # Every wait is bounded: a worker that waits for ever on a dead server holds its task for ever.
        options = "-c statement_timeout=60000 -c lock_timeout=20000 -c idle_in_transaction_session_timeout=60000"
        engine = create_engine(
            self.url,
            pool_size=self._pool_size,
            max_overflow=self._max_overflow,
            pool_timeout=self._patience_s or 30,
            pool_pre_ping=True,
            pool_recycle=1800,
            connect_args={
                "connect_timeout": self._patience_s or 5,
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 1000 * (self._patience_s or 20),
                "application_name": self._application_name,
                "options": options,
            },
        )
        event.listen(engine, "connect", _ids_as_text)
        return engine

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a READ COMMITTED transaction: committed at the end, rolled back on any error."""
        with self.engine.begin() as connection:
            yield connection

    def retrying(
        self,
        unit: Callable[[Connection], T],
        *,
        for_s: float = 60,
        after: Callable[[BaseException], bool] | None = None,
    ) -> T:
        """Run `unit` in a transaction of its own; again, with a fresh connection, after errors that pass.

        after: which ones (`is_passing` when left out). Workers' units are idempotent by design (natural keys, fenced
        moves), so running one whose COMMIT was cut off again is safe; for others there is `is_conflict`.
        Raises the last error when it goes on for `for_s` seconds.
        """
        passes = after or is_passing
        give_up_at = time.monotonic() + for_s
        wait_s = 0.1
        while True:
            try:
                with self.transaction() as connection:
                    return unit(connection)
            except DBAPIError as error:
                if not passes(error) or time.monotonic() + wait_s > give_up_at:
                    raise
                what = "others were in the way" if is_contended(error) else "the database did not answer"
                logger.warning("%s, trying again in %.1f s: %s", what, wait_s, _first_line(error))
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, 5)

    def dispose(self) -> None:
        """Close this process's connections."""
        engine = self._engines.pop(os.getpid(), None)
        if engine is not None:
            engine.dispose()


#: Ids are text everywhere in our code, as they are in URLs and messages; psycopg2's OIDs of uuid and uuid[].
_UUID_AS_TEXT = psycopg2.extensions.new_type((2950,), "UUID_AS_TEXT", psycopg2.STRING)
_UUIDS_AS_TEXT = psycopg2.extensions.new_array_type((2951,), "UUIDS_AS_TEXT", _UUID_AS_TEXT)


def _ids_as_text(connection: Any, _: object) -> None:
    for caster in (_UUID_AS_TEXT, _UUIDS_AS_TEXT):
        psycopg2.extensions.register_type(caster, connection)


#: SQLSTATEs with which the server rolls a transaction back because of others: so nothing of it was done.
_CONFLICTS = {"40P01", "40001"}  # deadlock, serialization failure
_TOOK_TOO_LONG = {"55P03", "57014"}  # lock timeout, statement timeout


def is_passing(error: BaseException) -> bool:
    """Whether the same transaction may go better in a moment: the server is away, or somebody held what it needed."""
    return is_contended(error) or is_unavailable(error)


def is_contended(error: BaseException) -> bool:
    """Whether the transaction was rolled back, by a server that is there, because others were in its way."""
    return _sqlstate(error) in _CONFLICTS | _TOOK_TOO_LONG


def is_conflict(error: BaseException) -> bool:
    """Whether two transactions could not both go on and this one was rolled back: it can be run again at once."""
    return _sqlstate(error) in _CONFLICTS


def _sqlstate(error: BaseException) -> str | None:
    return getattr(error.orig, "pgcode", None) if isinstance(error, DBAPIError) else None


def is_unavailable(error: BaseException) -> bool:
    """Whether the error means that the server could not be reached, went away, or has no disk or memory left."""
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "pgcode", None)
    away = code is None and isinstance(error, OperationalError | InterfaceError)
    return error.connection_invalidated or away or (code or "").startswith(_AWAY_OR_EXHAUSTED)


def login_refusal(error: BaseException) -> str | None:
    """The words with which the server did not let us in: a wrong password, no such user or database. None for all else.

    Known by the words, because libpq gives no SQLSTATE for a connection that was not made; a server that speaks another
    language than English counts as away.
    """
    said = str(error.orig).splitlines() if isinstance(error, OperationalError) else []
    return next((" ".join(line.split()) for line in said if _LOGIN_REFUSED.search(line)), None)


_LOGIN_REFUSED = re.compile(
    r"(password|Peer|certificate) authentication failed|no password supplied|no pg_hba\.conf entry"
    r'|pg_hba\.conf rejects|(role|database) ".*" (does not exist|is not permitted to log in)'
    r"|permission denied for database|no such (user|database)"  # the last as PgBouncer says it
)

#: Classes of SQLSTATE (Postgres, appendix A): connection, insufficient resources, operator intervention, system error.
_AWAY_OR_EXHAUSTED = ("08", "53", "57P", "58")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def migrate(url: str) -> None:
    """Bring the database at `url` to the newest schema, one migrator at a time (Alembic, under an advisory lock)."""
    from alembic import command

    command.upgrade(alembic_config(url), "head")


def alembic_config(url: str):  # type: ignore[no-untyped-def]  # alembic.config.Config, imported on use
    """Alembic's configuration for the database at `url`, without an ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config
