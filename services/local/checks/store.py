"""The store of pictures and uploads: can it be used, and is in it what the rows name and nothing else."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlalchemy import text

from services.local.checks.check import Check, Found, Need, Subject, bad, good, unknown
from shared.blob_stores import open_blobs
from shared.blobs import BlobEntry, BlobMissing
from shared.db import Database
from shared.errors import PermanentError, TransientError
from shared.gc import KEPT_S, PROBES, collect, is_referred, require_ours
from shared.settings import SettingError, Settings

#: How long a store that says nothing is waited for.
PATIENCE_S = 5.0
#: A store refuses addresses that were signed by clocks which differ by minutes.
MOST_SKEW_S = 60.0
#: Rows that are read at a time.
PAGE = 5000
#: So many blobs that are wrong say enough.
ENOUGH = 1000

#: Where blobs are, and the rows that name some there, in the order of the blobs' names: those after `:a` and `:b`.
_NAMED = (
    (
        "pictures/",
        """SELECT CAST(extraction_id AS text) AS a, frame_index AS b,
            array_remove(ARRAY[blob, analysis_blob, small_blob], NULL) AS names,
            NULL AS size_bytes
        FROM key_frames WHERE (extraction_id, frame_index) > (CAST(:a AS uuid), :b)
        ORDER BY extraction_id, frame_index LIMIT :page""",
    ),
    (
        "exports/",
        """SELECT blob AS a, 0 AS b, ARRAY[blob] AS names, size_bytes
        FROM exports WHERE blob COLLATE "C" > :a ORDER BY blob COLLATE "C" LIMIT :page""",
    ),
    (
        "queries/",
        """SELECT blob AS a, 0 AS b, ARRAY[blob] AS names, NULL AS size_bytes
        FROM queries WHERE blob COLLATE "C" > :a ORDER BY blob COLLATE "C" LIMIT :page""",
    ),
    (
        "uploads/",
        """SELECT blob AS a, 0 AS b, ARRAY[blob] AS names, size_bytes
        FROM uploads WHERE blob COLLATE "C" > :a ORDER BY blob COLLATE "C" LIMIT :page""",
    ),
)
_BEFORE_ALL = {"pictures/": "00000000-0000-0000-0000-000000000000"}


def usable(subject: Subject) -> Found:
    """Whether the store takes a probe, gives it back and removes it, and agrees on what time it is."""
    settings = subject.settings
    if not _is_named(settings):
        return unknown("The settings name no store of pictures, or its folder is not there.")
    name = f"{PROBES}{uuid.uuid4()}"
    try:
        blobs = open_blobs(settings, patience_s=PATIENCE_S)
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"reelmap doctor")
            file.flush()
            blobs.put(name, Path(file.name))
        content = blobs.read(name)
        next(blobs.entries(name), None)
        blobs.delete([name])
        skew_s = blobs.clock_ahead_s()
    except BlobMissing:
        return bad(f"It took {name} and does not have it. Look for a rule of the bucket that removes objects.")
    except (SettingError, TransientError) as error:
        return bad(f"{_sentence(error)} Its user must be allowed to put, get, list and delete (docs/operations.md).")
    if content != b"reelmap doctor":
        return bad(f"It gave other bytes back than {name} was written with. Look at what stands between.")
    return judge_skew(skew_s)


def judge_skew(skew_s: float) -> Found:
    """skew_s: how far this machine's clock is ahead of the store's."""
    if abs(skew_s) > MOST_SKEW_S:
        where = "ahead of" if skew_s > 0 else "behind"
        return bad(
            f"This machine's clock is {abs(skew_s):.0f} s {where} the store's, which refuses what is signed at another "
            "time than its own: pictures do not show. Let both follow a time server."
        )
    return good("It takes, gives back and removes what it should.")


def whose(subject: Subject) -> Found:
    """Whether what is in the store belongs to this database."""
    if not _is_named(subject.settings):
        return unknown("The settings name no store of pictures, or its folder is not there.")
    try:
        require_ours(subject.db, open_blobs(subject.settings, patience_s=PATIENCE_S))
    except (PermanentError, TransientError, SettingError) as error:
        return bad(_sentence(error))
    return good("It belongs to this database.")


def every_blob(subject: Subject) -> Found:
    """Whether every picture and upload that a row names is there, as long as it should be."""
    if not _is_named(subject.settings):
        return unknown("The settings name no store of pictures, or its folder is not there.")
    blobs = open_blobs(subject.settings, patience_s=PATIENCE_S)
    count = missing = wrong = 0
    example = ""
    try:
        for prefix, statement in _NAMED:
            for name, size_bytes, entry in _side_by_side(_named(subject.db, prefix, statement), blobs.entries(prefix)):
                count += 1
                if _is_right(entry, size_bytes):
                    continue
                # What comes or goes while we look: whoever deletes removes the row first.
                entry = next((one for one in blobs.entries(name) if one.name == name), None)
                if _is_right(entry, size_bytes) or not is_referred(subject.db, name):
                    continue
                missing, wrong = missing + (entry is None), wrong + (entry is not None)
                example = example or name
                if missing + wrong == ENOUGH:
                    return _judge(count, missing, wrong, example, is_all=False)
    except TransientError as error:
        return bad(_sentence(error))
    return _judge(count, missing, wrong, example, is_all=True)


def _judge(count: int, missing: int, wrong: int, example: str, *, is_all: bool) -> Found:
    if not missing and not wrong:
        return good(f"All of the {count:,} that rows name are there.")
    found = [f"{missing:,} are missing"] if missing else []
    found += [f"{wrong:,} are longer or shorter than they were"] if wrong else []
    seen = f"Of {count:,} that rows name" if is_all else f"Of the first {count:,} that rows name"
    return bad(
        f"{seen}, {' and '.join(found)}, such as {example}. Bring them back from a backup, or submit their videos "
        "again."
    )


def orphans(subject: Subject) -> Found:
    """How much there is that no row names."""
    if not _is_named(subject.settings):
        return unknown("The settings name no store of pictures, or its folder is not there.")
    try:
        found = collect(
            subject.db, open_blobs(subject.settings, patience_s=PATIENCE_S), older_than_s=KEPT_S, delete=False
        )
    except (PermanentError, TransientError) as error:
        return bad(_sentence(error))
    kinds = [
        f"{garbage.count:,} {garbage.kind} ({garbage.size_bytes / 1e6:,.1f} MB)"
        for garbage in found
        if garbage.size_bytes
    ]
    if not kinds:
        return good("Nothing lies there that no row names.")
    return good(f"Nothing uses {', '.join(kinds)}: `reelmap gc` would remove them, as the dispatcher does every hour.")


def _is_named(settings: Settings) -> bool:
    return bool(settings.blobs_place or (settings.blobs_folder and settings.blobs_folder.is_dir()))


def _sentence(error: Exception) -> str:
    return f"{str(error)[0].upper()}{str(error)[1:].rstrip('.')}."


def _named(database: Database, prefix: str, statement: str) -> Iterator[tuple[str, int | None]]:
    """Names of blobs and their sizes, where rows say so; a page of rows at a time."""
    after: dict[str, object] = {"a": _BEFORE_ALL.get(prefix, ""), "b": -1}
    while True:
        with database.transaction() as connection:
            rows = connection.execute(text(statement), {**after, "page": PAGE}).all()
        for row in rows:
            for name in row.names:
                yield name, row.size_bytes
        if len(rows) < PAGE:
            return
        after = {"a": rows[-1].a, "b": rows[-1].b}


def _side_by_side(
    named: Iterable[tuple[str, int | None]], entries: Iterator[BlobEntry]
) -> Iterator[tuple[str, int | None, BlobEntry | None]]:
    """Each named blob with its entry in the listing, both in the order of names, so that neither is held whole."""
    entry = next(entries, None)
    for name, size_bytes in named:
        while entry is not None and entry.name < name:
            entry = next(entries, None)
        yield name, size_bytes, entry if entry is not None and entry.name == name else None


def _is_right(entry: BlobEntry | None, size_bytes: int | None) -> bool:
    return entry is not None and size_bytes in (None, entry.size_bytes)


CHECKS = (
    Check("store", usable, (Need.SETTINGS,)),
    Check("whose store", whose, (Need.SETTINGS, Need.SCHEMA)),
)
#: What takes longer the more there is.
THOROUGH_CHECKS = (
    Check("every blob", every_blob, (Need.SETTINGS, Need.SCHEMA)),
    Check("orphans", orphans, (Need.SETTINGS, Need.SCHEMA)),
)
