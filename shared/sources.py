"""Writes the sources of a job: those that a person names, and those that a list turns out to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

#: How many sources a list may bring, with all lists in it: what a site says must not fill a database.
MAX_LISTED = 10_000

#: A channel holds lists that hold videos; what is nested deeper is not looked into.
LEVELS_OF_LISTS = 2


@dataclass(frozen=True)
class NewSource:
    """A source to be: `title` and `host` as the `sources` table has them."""

    url: str
    host: str | None
    title: str | None


def add_sources(
    connection: Connection,
    job_id: str,
    new: Sequence[NewSource],
    *,
    list_levels: int = 0,
    parent_id: str | None = None,
) -> list[str]:
    """Write those sources that the job does not have, in order, behind those it has. Returns the URLs it had.

    list_levels: how many levels of lists may become their videos; 0: a list is refused. parent_id: the list that these
    come from. The caller holds the job's row (`tasks.lock_job`), or made it, so that no two number the same places.
    """
    known = set(
        connection.execute(
            text("SELECT url FROM sources WHERE job_id = :job AND url = ANY(:urls)"),
            {"job": job_id, "urls": [source.url for source in new]},
        ).scalars()
    )
    missing = [source for source in new if source.url not in known]
    if missing:
        connection.execute(
            text(
                """
                INSERT INTO sources (job_id, position, url, host, title, list_levels, parent_id)
                SELECT :job, first.position + given.number - 1, given.url, given.host, given.title, :levels, :parent
                FROM unnest(CAST(:urls AS text[]), CAST(:hosts AS text[]), CAST(:titles AS text[]))
                     WITH ORDINALITY AS given (url, host, title, number),
                     (SELECT coalesce(max(position) + 1, 0) AS position FROM sources WHERE job_id = :job) AS first"""
            ),
            {
                "job": job_id,
                "urls": [source.url for source in missing],
                "hosts": [source.host for source in missing],
                "titles": [source.title for source in missing],
                "levels": list_levels,
                "parent": parent_id,
            },
        )
    return [source.url for source in new if source.url in known]
