"""EmbeddedRedis: one URL for all clients, a password nobody sees, data that outlive a kill."""

from __future__ import annotations

import stat
from pathlib import Path

import kombu
import pytest
import redis

from services.local.redis import EmbeddedRedis, running_url


@pytest.fixture
def server(guard, tmp_path):
    server = EmbeddedRedis(tmp_path / "redis", guard)
    server.start()
    yield server
    server.stop()


def client_of(server):
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_kombu_and_redis_py_take_the_same_url(redis_url):
    with redis.Redis.from_url(redis_url) as client, kombu.Connection(redis_url) as connection:
        queue = connection.SimpleQueue("hello")
        queue.put({"a": 1})
        assert client.llen("hello") == 1
        assert queue.get(timeout=5).payload == {"a": 1}
        queue.close()


def test_without_the_password_nothing_is_answered(server):
    port = redis.connection.parse_url(server.url)["port"]
    with redis.Redis(port=port, retry=None) as client, pytest.raises(redis.exceptions.AuthenticationError):
        client.ping()


def test_the_password_is_in_a_private_file_and_not_in_the_process_list(server, tmp_path):
    password = redis.connection.parse_url(server.url)["password"]
    config = tmp_path / "redis/redis.conf"
    assert password in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert password.encode() not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()


def test_it_refuses_writes_rather_than_forget_messages_when_memory_is_short(server):
    with client_of(server) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_it_keeps_idle_clients_and_notices_lost_ones_and_its_memory_is_bounded(server):
    expected = {"timeout": "0", "tcp-keepalive": "60", "appendonly": "yes", "appendfsync": "everysec"}
    with client_of(server) as client:
        config = client.config_get("*")
    assert {name: config[name] for name in expected} == expected
    assert int(config["maxmemory"]) == 256 * 1024 * 1024


def test_whoever_knows_the_folder_finds_the_server_that_runs_on_it(server, tmp_path):
    assert running_url(tmp_path / "redis") == server.url
    assert running_url(tmp_path / "elsewhere") is None


def test_after_a_kill_the_same_url_answers_again_with_the_data(guard, server):
    url = server.url
    with client_of(server) as client:
        client.rpush("keyframes", "task 1")
    guard.kill(server.process)
    assert server.start() == url
    with client_of(server) as client:
        assert client.lrange("keyframes", 0, -1) == ["task 1"]


def test_data_survives_stop_and_start_by_another_owner(guard, server, tmp_path):
    with client_of(server) as client:
        client.set("kept", "7")
    server.stop()
    other = EmbeddedRedis(tmp_path / "redis", guard)
    other.start()
    with client_of(other) as client:
        assert client.get("kept") == "7"
    other.stop()


def test_a_file_it_cannot_read_is_set_aside_and_it_starts_empty(guard, server, tmp_path, caplog):
    with client_of(server) as client:
        client.set("lost", "7")
    guard.kill(server.process)
    (tmp_path / "redis/appendonly.aof").write_text("*1\r\nnonsense in the middle\r\n*1\r\n$4\r\nPING\r\n")
    server.start()
    with client_of(server) as client:
        assert client.get("lost") is None
    assert (tmp_path / "redis/appendonly.aof.damaged").exists()
    assert "starts empty" in caplog.text
