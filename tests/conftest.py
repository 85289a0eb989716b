"""What every test gets: a clean environment, no unnoticed errors, and real servers for those that ask."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

DATA_DIR_VARIABLE = "REELMAP_DATA_DIR"


def pytest_configure(config: pytest.Config) -> None:
    # Before any library reads it: on shared cores, threads that wait for each other make clustering many times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    config.addinivalue_line("markers", "allow_errors: this test may log at ERROR; without it, that fails the test")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Settings of the person who runs the tests must not change what they find."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("REELMAP_") and name != DATA_DIR_VARIABLE:
                patch.delenv(name)
        yield


class _Errors(logging.Handler):
    """Keeps what is logged at ERROR and above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def _no_errors_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """An error that only the log knows is a failure."""
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    yield
    logging.getLogger().removeHandler(errors)
    if errors.lines and request.node.get_closest_marker("allow_errors") is None:
        pytest.fail("logged at ERROR:\n" + "\n".join(errors.lines), pytrace=False)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real clips, photos and weights."""
    folder = os.environ.get(DATA_DIR_VARIABLE)
    if not folder:
        pytest.skip(f"{DATA_DIR_VARIABLE} is not set: it names the folder of real clips, photos and weights")
    return Path(folder)


@pytest.fixture(scope="session")
def guard() -> Iterator[object]:
    """Starts processes that do not outlive the test run, also when it is killed."""
    from services.local.guard import Guard

    with Guard() as guard:
        yield guard


@pytest.fixture(scope="session")
def postgres_server(guard, tmp_path_factory):
    """A running EmbeddedPostgres."""
    from services.local.postgres import EmbeddedPostgres

    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), guard, durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_template(postgres_server) -> str:
    """The name of a database that has every table and no row, to be copied."""
    from shared.db import migrate

    name = "migrated"
    migrate(postgres_server.create_database(name))
    return name


_numbers = itertools.count(1)


@pytest.fixture
def database_url(postgres_server, migrated_template) -> Iterator[str]:
    """The URL of a database of this test's own, with every table and no row."""
    name = f"test_{next(_numbers)}"
    yield postgres_server.create_database(name, template=migrated_template)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def redis_server(guard, tmp_path_factory):
    """A running EmbeddedRedis."""
    from services.local.redis import EmbeddedRedis

    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), guard, durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server) -> str:
    """The URL of an empty Redis."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def object_store(guard, tmp_path_factory):
    """A running ObjectStore."""
    from tests.object_store import ObjectStore

    store = ObjectStore(guard, tmp_path_factory.mktemp("s3") / "s3.log")
    store.start()
    yield store
    store.stop()
