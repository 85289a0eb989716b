"""What statements of several modules here are made of."""

from __future__ import annotations

from sqlalchemy import TextClause, bindparam, text

#: An id that no row has, for an empty IN list.
NO_ID = "00000000-0000-0000-0000-000000000000"

#: Of `moved`, tasks that a statement takes out of `running`, with what its rows held before: each attempt is kept.
KEEP_ATTEMPTS = """INSERT INTO task_attempts (task_id, attempt, owner, started_at, outcome, error_kind, error)
    SELECT id, attempt, owner, claimed_at, :outcome, error_kind, error FROM moved"""


def sql(statement: str, *expanding: str) -> TextClause:
    """The statement, with a list for each of the parameters named in `expanding`."""
    return text(statement).bindparams(*(bindparam(name, expanding=True) for name in expanding))
