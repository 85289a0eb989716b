"""Keys of the API: how they look, who made them, what they may do. Only a hash of a key's secret is kept.

A key reads `rmk_<prefix>_<secret>`: a prefix that names it in lists and a secret of 256 random bits, both in
hexadecimal digits. Secret scanners recognise it by `rmk_[0-9a-f]{8}_[0-9a-f]{64}`; a double click selects all of it.
The secret is random and long, so one SHA-256 keeps it as safe as a slow hash keeps a password.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from shared.errors import ErrorKind, PermanentError
from shared.roles import Role

MAX_NAME = 100
#: `last_used_at` is written at most this often, so that reading costs no write.
USE_NOTED_EVERY_S = 60

_TEXT = re.compile(r"rmk_([0-9a-f]{8})_([0-9a-f]{64})")
#: Compared with when there is no such key, so that an unknown prefix takes as long as a wrong secret.
_NO_SHA256 = "0" * 64

_KEYS = """
    SELECT k.id, k.project_id, p.name AS project, k.name, k.role, k.prefix, k.created_at, k.last_used_at, k.revoked_at
    FROM api_keys k JOIN projects p ON p.id = k.project_id"""


@dataclass(frozen=True)
class Key:
    """A key without its secret."""

    id: str
    project_id: str
    project: str
    name: str
    role: Role
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class NameTaken(PermanentError):
    """Another usable key of the project has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            ErrorKind.BAD_PARAMETERS, f"There is a key {name!r} already; revoke it first, or choose another name."
        )


def looks_like_a_key(given: str) -> bool:
    """Whether the text could be a key; nothing is asked of the database."""
    return _TEXT.fullmatch(given) is not None


def add_key(connection: Connection, project_id: str, name: str, role: Role) -> tuple[Key, str]:
    """Make a key. Returns it with its text, which nobody can find out again.

    Raises PermanentError(BAD_PARAMETERS) when the name cannot be used, `NameTaken` when a usable key has it.
    """
    name = _checked_name("key", name)
    prefix, secret = secrets.token_hex(4), secrets.token_hex(32)
    key_id = connection.execute(
        text(
            """INSERT INTO api_keys (project_id, name, role, prefix, sha256)
            VALUES (:project, :name, :role, :prefix, :sha256)
            ON CONFLICT (project_id, name) WHERE revoked_at IS NULL DO NOTHING RETURNING id"""
        ),
        {"project": project_id, "name": name, "role": role.value, "prefix": prefix, "sha256": _sha256(secret)},
    ).scalar()
    if key_id is None:
        raise NameTaken(name)
    row = connection.execute(text(f"{_KEYS} WHERE k.id = :id"), {"id": key_id}).one()
    return _key(row), f"rmk_{prefix}_{secret}"


def list_keys(
    connection: Connection,
    project_id: str | None = None,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int | None = None,
) -> list[Key]:
    """Keys, revoked ones too, the newest first; of every project when none is named.

    before: `created_at` and id of the key behind which to begin.
    """
    conditions = ["true"]
    values: dict[str, Any] = {"limit": limit}
    if project_id is not None:
        conditions.append("k.project_id = :project")
        values["project"] = project_id
    if before is not None:
        conditions.append("(k.created_at, k.id) < (:created_at, CAST(:id AS uuid))")
        values["created_at"], values["id"] = before
    rows = connection.execute(
        text(f"{_KEYS} WHERE {' AND '.join(conditions)} ORDER BY k.created_at DESC, k.id DESC LIMIT :limit"), values
    )
    return [_key(row) for row in rows]


def revoke_key(connection: Connection, key_id: str, project_id: str | None = None) -> bool:
    """Make a key useless for good. Returns whether there is such a key; one that is revoked already stays as it is."""
    changed = connection.execute(
        text(
            f"""UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
            WHERE id = :id {"" if project_id is None else "AND project_id = :project"}"""
        ),
        {"id": key_id, "project": project_id},
    )
    return changed.rowcount > 0


def find_usable(connection: Connection, name_or_id: str) -> Sequence[Key]:
    """The keys of that name, prefix or id that are not revoked; several projects may each have one of a name."""
    rows = connection.execute(
        text(f"{_KEYS} WHERE k.revoked_at IS NULL AND :given IN (k.name, k.prefix, CAST(k.id AS text)) ORDER BY k.id"),
        {"given": name_or_id},
    )
    return [_key(row) for row in rows]


def has_usable_key(connection: Connection) -> bool:
    """Whether anybody could sign in."""
    return bool(connection.execute(text("SELECT EXISTS (SELECT FROM api_keys WHERE revoked_at IS NULL)")).scalar())


def authenticate(connection: Connection, given: str) -> Key | None:
    """The key whose text this is, unless it is revoked; notes that it was used."""
    match = _TEXT.fullmatch(given)
    if match is None:
        return None
    prefix, secret = match.groups()
    # By the prefix, which is no secret: nothing of the secret is in a statement, and so in no log of one.
    row = connection.execute(
        text("SELECT id, sha256 FROM api_keys WHERE prefix = :prefix AND revoked_at IS NULL"), {"prefix": prefix}
    ).one_or_none()
    if not hmac.compare_digest(row.sha256 if row else _NO_SHA256, _sha256(secret)) or row is None:
        return None
    return usable_key(connection, row.id)


def usable_key(connection: Connection, key_id: str) -> Key | None:
    """The key of that id, unless it is revoked; notes that it was used."""
    row = connection.execute(text(f"{_KEYS} WHERE k.id = :id AND k.revoked_at IS NULL"), {"id": key_id}).one_or_none()
    if row is None:
        return None
    connection.execute(
        text(
            f"""UPDATE api_keys SET last_used_at = now() WHERE id = :id
            AND (last_used_at IS NULL OR last_used_at < now() - interval '{USE_NOTED_EVERY_S} seconds')"""
        ),
        {"id": key_id},
    )
    return _key(row)


def project_id_of(connection: Connection, name: str, *, make: bool) -> str | None:
    """The id of the project of that name. make: one that is not there is made; without, the answer is None.

    Raises PermanentError(BAD_PARAMETERS) when the name cannot be used.
    """
    name = _checked_name("project", name)
    if make:
        connection.execute(text("INSERT INTO projects (name) VALUES (:name) ON CONFLICT DO NOTHING"), {"name": name})
    found: str | None = connection.execute(text("SELECT id FROM projects WHERE name = :name"), {"name": name}).scalar()
    return found


def _checked_name(what: str, name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise PermanentError(
            ErrorKind.BAD_PARAMETERS, f"The name of a {what} has 1 to {MAX_NAME} printable characters; choose another."
        )
    return name


def _key(row: Any) -> Key:
    return Key(**{**row._mapping, "role": Role(row.role)})


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
