"""What is refused at the start, in which words."""

from __future__ import annotations

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisAway

from shared.settings import SettingError
from shared.startup import EXIT_REFUSED, Unfit, check_redis, check_versions, explained, wait_for_redis

GOOD = {"redis_version": "6.2.14", "maxmemory_policy": "noeviction"}


class Server:
    """Answers `INFO` with each of the answers in turn, or raises it."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def info(self) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_what_is_installed_is_good_enough():
    check_versions()


@pytest.mark.parametrize("package", ["celery", "kombu"])
def test_packages_that_strand_messages_are_refused(package):
    with pytest.raises(Unfit, match=rf"{package} 5\.6\.3 is installed; older than 5\.7 .*requirements/lock\.txt"):
        check_versions(lambda name: "5.6.3" if name == package else "5.10.0")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_evicts_is_refused(policy):
    with pytest.raises(Unfit, match=f"maxmemory-policy {policy}.*Set it to noeviction"):
        check_redis({**GOOD, "maxmemory_policy": policy})


def test_an_old_redis_is_refused():
    with pytest.raises(Unfit, match=r"version 6\.0\.16; Reelmap needs 6\.2 or newer"):
        check_redis({**GOOD, "redis_version": "6.0.16"})


def test_a_newer_redis_will_do():
    check_redis({**GOOD, "redis_version": "10.0.1"})


def test_a_redis_that_is_away_is_waited_for(monkeypatch, caplog):
    monkeypatch.setattr("shared.startup.LOOK_EVERY_S", 0)
    lived = []
    server = Server(RedisAway("refused"), RedisAway("refused"), GOOD)
    assert wait_for_redis(server, lambda: False, lambda: lived.append(1))  # type: ignore[arg-type]
    assert len(lived) == 2
    assert caplog.text.count("waiting for Redis: refused") == 1


@pytest.mark.parametrize("said", ["DENIED Redis is running in protected mode", "DB index is out of range"])
def test_a_redis_that_answers_nothing_is_refused(said):
    with pytest.raises(Unfit, match=f"Redis cannot be used: {said}"):
        wait_for_redis(Server(ResponseError(said)), lambda: False, lambda: None)  # type: ignore[arg-type]


def test_a_redis_that_does_not_let_us_in_is_not_waited_for():
    server = Server(AuthenticationError("invalid username-password pair or user is disabled."))
    with pytest.raises(
        Unfit,
        match=r"does not let us in: invalid .* is disabled\. Look at REELMAP_REDIS_URL and REELMAP_REDIS_PASSWORD",
    ):
        wait_for_redis(server, lambda: False, lambda: None)  # type: ignore[arg-type]


def test_a_redis_that_hides_its_settings_is_taken_as_it_is(caplog):
    for said in (NoPermissionError("NOPERM"), ResponseError("unknown command 'INFO', with args beginning with: ")):
        assert wait_for_redis(Server(said), lambda: False, lambda: None)  # type: ignore[arg-type]
    assert "does not let us look at its settings" in caplog.text


@pytest.mark.allow_errors
@pytest.mark.parametrize("error", [Unfit("Redis is too old."), SettingError("REELMAP_X is not a setting.")])
def test_what_a_person_has_to_change_is_one_line_and_exit_code_2(error, caplog):
    with pytest.raises(SystemExit) as ended, explained():
        raise error
    assert ended.value.code == EXIT_REFUSED
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [(str(error), None)]
