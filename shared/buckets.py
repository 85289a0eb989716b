"""What names a bucket of an object store, and a place in it. Pure: nothing here asks a store."""

from __future__ import annotations

import re
from typing import NamedTuple

#: What AWS allows; others allow no more that matters.
_NAME = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX_PART = re.compile(r"(?!\.+$)[A-Za-z0-9._-]+")


class BucketPlace(NamedTuple):
    """Where in an object store. prefix: what all names there start with: "", or something that ends in a slash."""

    bucket: str
    prefix: str

    def holds(self, bucket: str, key: str) -> bool:
        """Whether the object is at this place."""
        return bucket == self.bucket and key.startswith(self.prefix)

    def overlaps(self, other: BucketPlace) -> bool:
        """Whether something could be at both places."""
        return self.holds(*other) or other.holds(*self)


def is_bucket_name(text: str) -> bool:
    """Whether a bucket may be called so."""
    return _NAME.fullmatch(text) is not None


def parse_place(text: str) -> BucketPlace:
    """Read `bucket` or `bucket/prefix`. Raises `ValueError`."""
    bucket, _, prefix = text.strip().partition("/")
    parts = prefix.removesuffix("/").split("/") if prefix else []
    if not is_bucket_name(bucket) or not all(_PREFIX_PART.fullmatch(part) for part in parts):
        raise ValueError(text)
    return BucketPlace(bucket, "".join(f"{part}/" for part in parts))
