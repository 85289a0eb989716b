"""Checks the URLs of sources to be, all of them, before one is written."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Connection, text

from services.api.problems import FieldError, Invalid, TooLarge
from services.api.schemas.fields import MAX_URLS
from shared.buckets import BucketPlace
from shared.errors import PermanentError
from shared.settings import Settings
from shared.sources import LEVELS_OF_LISTS, NewSource
from shared.urls import BUCKET_SCHEME, UPLOAD_SCHEME, SourceUrl, not_opened, parse_source_url


def list_levels(expand: bool) -> int:
    """How many levels of lists may become their videos."""
    return LEVELS_OF_LISTS if expand else 0


def new_sources(
    connection: Connection, project_id: str, settings: Settings, urls: Sequence[str], coming: Collection[str] = ()
) -> tuple[list[NewSource], list[str]]:
    """One source for each different URL, and the URLs that were named more than once.

    coming: ids of uploads whose bytes are still to be stored. The others stay until the transaction ends.
    Raises `Invalid` or `TooLarge` naming the fields.
    """
    if len(urls) > MAX_URLS:
        sentence = f"at most {MAX_URLS} URLs in one call, not {len(urls)}; send the rest to POST /jobs/{{id}}/sources"
        raise TooLarge(f"videos: {sentence}", [("videos", sentence)])
    parsed, errors = _parse(urls, settings.s3_source_places)
    file_names = dict.fromkeys(coming, "")
    file_names |= _upload_names(connection, project_id, (u.target for _, u in parsed if u.scheme == UPLOAD_SCHEME))
    found: dict[str, NewSource] = {}
    repeated: dict[str, None] = {}
    for field, url in parsed:
        if url.url in found:
            repeated[url.url] = None
        elif url.scheme != UPLOAD_SCHEME:
            found[url.url] = NewSource(url.url, url.limit_key, None)
        elif url.target in file_names:
            found[url.url] = NewSource(url.url, None, file_names[url.target])
        else:
            errors.append((field, f"there is no upload {url.target}; upload the file first (POST /uploads)"))
    if errors:
        raise Invalid(errors)
    return list(found.values()), list(repeated)


def _parse(urls: Sequence[str], places: Sequence[BucketPlace]) -> tuple[list[tuple[str, SourceUrl]], list[FieldError]]:
    parsed: list[tuple[str, SourceUrl]] = []
    errors: list[FieldError] = []
    for index, url in enumerate(urls):
        field = f"videos.{index}"
        try:
            source = parse_source_url(url)
            if source.scheme == BUCKET_SCHEME and not source.is_in(places):
                raise not_opened(source)
            parsed.append((field, source))
        except PermanentError as error:
            errors.append((field, error.message))
    return parsed, errors


def _upload_names(connection: Connection, project_id: str, upload_ids: Iterable[str]) -> dict[str, str]:
    """File names of those uploads that exist; they stay until this transaction ends."""
    ids = sorted({upload_id for upload_id in upload_ids if _is_canonical_uuid(upload_id)})
    if not ids:
        return {}
    rows = connection.execute(
        text(
            """SELECT id, file_name FROM uploads WHERE project_id = :project AND id = ANY(CAST(:ids AS uuid[]))
            ORDER BY id FOR SHARE"""
        ),
        {"project": project_id, "ids": ids},
    )
    return {row.id: row.file_name for row in rows}


def _is_canonical_uuid(value: str) -> bool:
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False
