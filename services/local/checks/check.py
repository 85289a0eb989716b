"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from redis import Redis

from shared.db import Database
from shared.settings import Settings


class Verdict(StrEnum):
    """What was found."""

    GOOD = "good"
    BAD = "bad"  # the sentence says what to do
    UNKNOWN = "unknown"  # could not be looked at, or means nothing here


#: A verdict and a sentence for people.
Found = tuple[Verdict, str]


class Need(StrEnum):
    """What a check cannot do without."""

    SETTINGS = "the settings can be read"
    DATABASE = "Postgres answers"
    SCHEMA = "Postgres has the schema"
    REDIS = "Redis answers"
    RUNNING = "Reelmap runs"


@dataclass(frozen=True)
class Subject:
    """The installation that is looked at.

    folder: that of an embedded one. database, redis: None when they do not answer, which `missing` explains.
    """

    settings: Settings
    folder: Path | None
    database: Database | None
    redis: Redis | None
    missing: dict[Need, str]

    @property
    def db(self) -> Database:
        """The database, for checks that need it."""
        assert self.database is not None
        return self.database

    @property
    def broker(self) -> Redis:
        """Redis, for checks that need it."""
        assert self.redis is not None
        return self.redis


@dataclass(frozen=True)
class Check:
    """One thing to look at. name: in words, for the table."""

    name: str
    look: Callable[[Subject], Found]
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What a check said."""

    check: str
    verdict: Verdict
    says: str


def good(says: str) -> Found:
    """All is well."""
    return Verdict.GOOD, says


def bad(says: str) -> Found:
    """Something is wrong; `says` ends with what to do."""
    return Verdict.BAD, says


def unknown(says: str) -> Found:
    """Nothing can be said."""
    return Verdict.UNKNOWN, says
