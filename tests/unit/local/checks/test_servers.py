"""What is said of servers, given what they answer."""

from __future__ import annotations

import pytest

from services.local.checks.check import Verdict
from services.local.checks.servers import judge_postgres, judge_redis, judge_skew

REDIS = {"redis_version": "7.2.1", "maxmemory_policy": "noeviction", "used_memory": 10**6, "maxmemory": 0}


def test_a_postgres_that_fits():
    for vector in ("0.8.5", "0.8.6", "0.10.0", "1.0"):
        assert judge_postgres(160004, "16.4", vector, is_offered=True)[0] is Verdict.GOOD


@pytest.mark.parametrize(
    ("number", "vector", "is_offered", "said"),
    [
        (150010, "0.8.0", True, "Reelmap needs 16 or newer"),
        (170000, "0.8.4", True, "pgvector is of version 0.8.4; older than 0.8.5"),
        (170000, "0.7", True, "pgvector is of version 0.7; older than 0.8.5"),
        (170000, None, True, "The database has no pgvector; run CREATE EXTENSION vector, or migrate."),
        (170000, None, False, "install pgvector on the server"),
    ],
)
def test_a_postgres_that_does_not(number, vector, is_offered, said):
    verdict, says = judge_postgres(number, "x.y", vector, is_offered=is_offered)
    assert verdict is Verdict.BAD
    assert said in says


@pytest.mark.parametrize(("skew_s", "said"), [(90, "90 s ahead of the database's"), (-7, "7 s behind the database's")])
def test_clocks_that_differ(skew_s, said):
    verdict, says = judge_skew(skew_s)
    assert verdict is Verdict.BAD
    assert said in says and "time server" in says


def test_clocks_that_agree():
    assert judge_skew(0.2)[0] is Verdict.GOOD


def test_a_redis_that_fits():
    verdict, says = judge_redis({**REDIS, "aof_enabled": 1})
    assert verdict is Verdict.GOOD
    assert says == "Redis 7.2.1 with noeviction; keeps messages over a restart; 1 MB used, no limit set."
    assert "forgets messages at a restart" in judge_redis(REDIS)[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"maxmemory_policy": "allkeys-lfu"}, "maxmemory-policy allkeys-lfu"),
        ({"redis_version": "5.0.7"}, "Reelmap needs 6.2 or newer"),
        ({"used_memory": 80 * 10**6, "maxmemory": 100 * 10**6}, "uses 80 of 100 MB"),
        ({"aof_last_write_status": "err"}, "could not write to its disk"),
    ],
)
def test_a_redis_that_does_not(changes, said):
    verdict, says = judge_redis({**REDIS, **changes})
    assert verdict is Verdict.BAD
    assert said in says
