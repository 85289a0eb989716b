"""What a key lets somebody do. On its own, because the command line names the roles before anything heavy is loaded."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a key may do; each may also do what those before it may."""

    READER = "reader"  # look and search
    WRITER = "writer"  # also submit, change and delete
    ADMIN = "admin"  # also make and revoke keys

    def may(self, needed: Role) -> bool:
        """Whether this role includes `needed`."""
        order = list(Role)
        return order.index(self) >= order.index(needed)
