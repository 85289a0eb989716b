"""The servers: do Postgres and Redis answer, and are they as Reelmap needs them."""

from __future__ import annotations

import re
import time
from typing import Any

from sqlalchemy import text

from services.local.checks.check import Check, Found, Need, Subject, bad, good
from shared.schema import is_usable, known_revisions, newest_revision, schema_revision
from shared.startup import Unfit, check_redis

LEAST_POSTGRES = 16
#: 0.8.2 to 0.8.4 mended a buffer overflow and HNSW indexes that were corrupt.
LEAST_PGVECTOR = (0, 8, 5)
#: Clocks that differ by more make times in logs and pages misleading. Leases do not care: they are the database's.
MOST_SKEW_S = 5.0
#: Share of Redis' memory above which it should get more.
MOST_MEMORY = 0.7
MB = 1e6


def postgres(subject: Subject) -> Found:
    """Whether Postgres is new enough and has pgvector."""
    with subject.db.transaction() as connection:
        number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
        shown = connection.execute(text("SHOW server_version")).scalar_one()
        vector = connection.execute(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")).scalar()
        offered = connection.execute(text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")).scalar()
    return judge_postgres(number, shown, vector, is_offered=offered is not None)


def judge_postgres(number: int, shown: str, vector: str | None, *, is_offered: bool) -> Found:
    """number: as `server_version_num` writes it; vector: the version of pgvector that the database has."""
    if number // 10000 < LEAST_POSTGRES:
        return bad(f"Postgres is of version {shown}; Reelmap needs {LEAST_POSTGRES} or newer. Move to a newer one.")
    if vector is None:
        what = "run CREATE EXTENSION vector, or migrate" if is_offered else "install pgvector on the server"
        return bad(f"The database has no pgvector; {what}.")
    if tuple(int(part) for part in re.findall(r"\d+", vector)[:3]) < LEAST_PGVECTOR:
        least = ".".join(map(str, LEAST_PGVECTOR))
        return bad(
            f"pgvector is of version {vector}; older than {least} it may write beyond its memory and make indexes that "
            "miss rows. Install a newer one and run ALTER EXTENSION vector UPDATE."
        )
    return good(f"Postgres {shown} with pgvector {vector}.")


def schema(subject: Subject) -> Found:
    """Whether the schema is one that this version works with."""
    with subject.db.transaction() as connection:
        found = schema_revision(connection)
    if not is_usable(found):
        return bad(
            f"The database has schema {found or 'none'} and this version needs {newest_revision()}. Migrate it "
            "(docs/operations.md); `reelmap up` does so when it starts."
        )
    if found not in known_revisions():
        return good(f"The database has schema {found}, which a newer version made; this version works with it.")
    return good(f"Schema {found} is the newest.")


def clocks(subject: Subject) -> Found:
    """Whether this machine and the database agree on what time it is."""
    with subject.db.transaction() as connection:
        connection.execute(text("SELECT 1"))  # connecting takes longer than asking
        asked_at = time.time()
        theirs = float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        answered_at = time.time()
    return judge_skew((asked_at + answered_at) / 2 - theirs)


def judge_skew(skew_s: float) -> Found:
    """skew_s: how far this machine's clock is ahead of the database's."""
    if abs(skew_s) > MOST_SKEW_S:
        where = "ahead of" if skew_s > 0 else "behind"
        return bad(
            f"This machine's clock is {abs(skew_s):.0f} s {where} the database's. Let both follow a time server."
        )
    return good(f"This machine's clock and the database's differ by {abs(skew_s):.1f} s.")


def redis(subject: Subject) -> Found:
    """Whether Redis is new enough, keeps what it is given, and has room."""
    return judge_redis(subject.broker.info())


def judge_redis(info: dict[str, Any]) -> Found:
    """info: what `INFO` answers."""
    try:
        check_redis(info)
    except Unfit as refusal:
        return bad(str(refusal))
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if limit and used > MOST_MEMORY * limit:
        return bad(
            f"Redis uses {used / MB:.0f} of {limit / MB:.0f} MB; when it is full nothing is sent any more. Raise its "
            "maxmemory, and use a database of Redis for Reelmap alone."
        )
    if "err" in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")):
        return bad("Redis could not write to its disk and refuses messages meanwhile; make room there.")
    keeps = "keeps messages over a restart" if int(info.get("aof_enabled", 0)) else "forgets messages at a restart"
    room = f"{used / MB:.0f} of {limit / MB:.0f} MB used" if limit else f"{used / MB:.0f} MB used, no limit set"
    return good(f"Redis {info.get('redis_version', '')} with noeviction; {keeps}; {room}.")


CHECKS = (
    Check("Postgres", postgres, (Need.DATABASE,)),
    Check("schema", schema, (Need.DATABASE,)),
    Check("clocks", clocks, (Need.DATABASE,)),
    Check("Redis", redis, (Need.REDIS,)),
)
