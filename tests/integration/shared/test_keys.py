"""Keys as rows: made, found again by their text, used, revoked."""

from __future__ import annotations

import re

import pytest

from shared import keys
from shared.errors import PermanentError
from shared.roles import Role
from shared.tables import DEFAULT_PROJECT_ID

pytestmark = pytest.mark.integration


@pytest.fixture
def connection(database):
    with database.transaction() as connection:
        yield connection


def test_a_key_is_recognisable_and_nothing_of_its_secret_is_kept(connection, rows):
    key, text = keys.add_key(connection, DEFAULT_PROJECT_ID, "ci", Role.WRITER)
    assert re.fullmatch(r"rmk_[0-9a-f]{8}_[0-9a-f]{64}", text)
    assert text.startswith(f"rmk_{key.prefix}_")
    connection.commit()
    stored = " ".join(map(str, rows.all("SELECT * FROM api_keys")[0]))
    assert text.rsplit("_", 1)[-1] not in stored
    assert (key.name, key.role, key.project, key.last_used_at, key.revoked_at) == (
        "ci",
        "writer",
        "default",
        None,
        None,
    )


def test_only_the_whole_text_is_the_key(connection):
    key, text = keys.add_key(connection, DEFAULT_PROJECT_ID, "ci", Role.READER)
    assert keys.authenticate(connection, text) == key
    other = keys.add_key(connection, DEFAULT_PROJECT_ID, "other", Role.READER)[1]
    wrong_end = text[:-1] + ("0" if text[-1] != "0" else "1")
    for wrong in (
        "",
        "rmk_",
        text[:-1],
        text + "0",
        text.upper(),
        wrong_end,
        text[:13] + other[13:],
        f" {text}",
        f"{text}\n",
    ):
        assert keys.authenticate(connection, wrong) is None, wrong


def test_a_revoked_key_is_none_and_stays_in_the_list(connection):
    key, text = keys.add_key(connection, DEFAULT_PROJECT_ID, "ci", Role.READER)
    assert keys.has_usable_key(connection)
    assert keys.revoke_key(connection, key.id)
    assert keys.authenticate(connection, text) is None
    assert keys.usable_key(connection, key.id) is None
    assert not keys.has_usable_key(connection)
    [listed] = keys.list_keys(connection)
    assert listed.revoked_at is not None
    assert keys.revoke_key(connection, key.id), "twice is as good as once"
    assert keys.list_keys(connection) == [listed]


def test_a_name_stands_for_one_usable_key_of_a_project(connection):
    first, _ = keys.add_key(connection, DEFAULT_PROJECT_ID, "ci", Role.READER)
    with pytest.raises(keys.NameTaken, match="a key 'ci' already"):
        keys.add_key(connection, DEFAULT_PROJECT_ID, " ci ", Role.ADMIN)
    other = keys.project_id_of(connection, "other", make=True)
    second, _ = keys.add_key(connection, other, "ci", Role.READER)
    assert {key.id for key in keys.find_usable(connection, "ci")} == {first.id, second.id}
    assert [key.id for key in keys.find_usable(connection, second.prefix)] == [second.id]
    assert [key.id for key in keys.find_usable(connection, second.id)] == [second.id]
    keys.revoke_key(connection, first.id)
    keys.add_key(connection, DEFAULT_PROJECT_ID, "ci", Role.READER)


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\x1b[31m", "\0"])
def test_a_name_that_cannot_be_shown_is_refused(connection, name):
    with pytest.raises(PermanentError, match="printable characters"):
        keys.add_key(connection, DEFAULT_PROJECT_ID, name, Role.READER)
    with pytest.raises(PermanentError, match="printable characters"):
        keys.project_id_of(connection, name, make=True)


def test_a_use_is_noted_once_a_minute(rows, database):
    with database.transaction() as connection:
        key, text = keys.add_key(connection, DEFAULT_PROJECT_ID, "ci", Role.READER)

    def use() -> object:
        with database.transaction() as connection:
            assert keys.authenticate(connection, text)
        return rows.one("SELECT last_used_at FROM api_keys WHERE id = :id", id=key.id)

    first = use()
    assert first is not None
    assert use() == first
    rows.do("UPDATE api_keys SET last_used_at = now() - interval '61 seconds'")
    assert use() > first


def test_roles_include_each_other():
    assert [[role.may(needed) for needed in Role] for role in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_keys_are_listed_newest_first_and_by_project(connection):
    other = keys.project_id_of(connection, "other", make=True)
    made = [keys.add_key(connection, project, f"k{i}", Role.READER)[0] for i, project in enumerate([other, other])]
    keys.add_key(connection, DEFAULT_PROJECT_ID, "elsewhere", Role.READER)
    # Made in one transaction, so at one time: then the id decides.
    in_order = sorted(made, key=lambda key: (key.created_at, key.id), reverse=True)
    assert keys.list_keys(connection, other) == in_order
    first = keys.list_keys(connection, other, limit=1)
    assert keys.list_keys(connection, other, before=(first[0].created_at, first[0].id)) == in_order[1:]
    assert keys.project_id_of(connection, "nobody", make=False) is None
