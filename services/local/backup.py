"""`reelmap backup` and `reelmap restore`: one data folder to one file and back.

In the file are the rows, as `pg_dump` writes them, and the blobs. Redis is not: the rows are the truth, a message only
a nudge, and what an empty Redis misses is sent again. `pg_dump` and not a copy of Postgres' files, because a dump is
read by the next version of Postgres and on another kind of machine, and carries no damage on.

A Reelmap that runs goes on while it is backed up. Blobs are written before the rows that name them, so the order is:
all blobs; then one snapshot of the rows; then the blobs that came in meanwhile; then the dump of that snapshot. A blob
whose rows are deleted in between is an orphan in the backup, which the first gc after a restore removes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO

import psycopg2
from psycopg2.extensions import make_dsn
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from services.local.archive import CHUNK_BYTES, ArchiveWriter, damaged, new_archive, read_archive
from services.local.guard import Guard
from services.local.installation import (
    BLOBS,
    POSTGRES,
    RESTORING,
    is_half_restored,
    make_folder,
    open_installation,
)
from services.local.lock import LOCK, FolderLock
from services.local.postgres import MAJOR_VERSION, EmbeddedPostgres, program
from shared.db import Database
from shared.errors import ErrorKind, PermanentError
from shared.folder_blobs import FolderBlobs
from shared.schema import known_revisions, schema_revision

Progress = Callable[[int], None]

#: The first member: what the archive is and what is needed to read it.
MANIFEST, DUMP, BLOBS_PREFIX = "reelmap-backup.json", "database.dump", "blobs/"
#: The file while it is written.
ARCHIVE = "archive.tar"
FORMAT = 1

#: A manifest has some 150 bytes; what is far longer is none.
MAX_MANIFEST_BYTES = 64 * 1024

#: A blob that is younger than this when a backup begins is looked for again: clocks of file servers differ.
CLOCKS_DIFFER_S = 60.0
DUMP_TIMEOUT_S = 24 * 3600.0


@dataclass(frozen=True)
class Manifest:
    """What an archive says of itself."""

    format: int
    reelmap: str
    postgres: int
    schema: str
    created_at: str


@dataclass(frozen=True)
class Contents:
    """What was put into a backup, or came out of one."""

    blobs: int
    blobs_bytes: int
    database_bytes: int  # as dumped
    archive_bytes: int


def blobs_bytes(folder: Path) -> int:
    """How much there is to back up, but for the rows."""
    return sum(entry.stat().st_size for _, entry in _blob_files(folder / BLOBS))


def backup(folder: Path, file: Path, progress: Progress = lambda size_bytes: None) -> Contents:
    """Write the data folder's backup into `file`, whether its Reelmap runs or not.

    progress: called with numbers of bytes as they are written. Raises PermanentError when there is nothing to back up,
    when pictures are elsewhere than in the folder, or when the file is there already.
    """
    if file.exists():
        raise PermanentError(ErrorKind.STORE_UNAVAILABLE, f"{file} is there already; choose another name.")
    with open_installation(folder) as installation, _unfinished(file) as unfinished:
        database = Database(installation.database_url, application_name="reelmap-backup")
        try:
            revision = database.retrying(schema_revision)
            is_elsewhere = revision is not None and not (folder / BLOBS).is_dir() and database.retrying(_names_blobs)
        finally:
            database.dispose()
        if revision is None:
            raise PermanentError(
                ErrorKind.STORE_UNAVAILABLE,
                f"The Reelmap in {folder} has never been started to the end; it has no data.",
            )
        if is_elsewhere:
            raise PermanentError(
                ErrorKind.BAD_PARAMETERS,
                f"The pictures of {folder} are not in it but in a bucket, so a backup of the folder would be half of "
                "one. Back up the database, then the bucket (docs/storage.md).",
            )
        manifest = Manifest(FORMAT, version("reelmap"), MAJOR_VERSION, revision, datetime.now(UTC).isoformat())
        with new_archive(unfinished / ARCHIVE, progress) as archive:
            archive.add_bytes(MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
            blobs = _Blobs(folder / BLOBS, archive)
            blobs.add()
            with _snapshot(installation.database_url) as snapshot:
                blobs.add()
                dump = unfinished / DUMP
                _run("pg_dump", installation.database_url, "--format=custom", "--compress=gzip:1", f"--file={dump}",
                     "--no-owner", "--lock-wait-timeout=60000", f"--snapshot={snapshot}")  # fmt: skip
            database_bytes = archive.add_file(DUMP, dump)
        os.replace(unfinished / ARCHIVE, file)
    return Contents(blobs.count, blobs.size_bytes, database_bytes, file.stat().st_size)


def restore(file: Path, folder: Path, progress: Progress = lambda size_bytes: None) -> Contents:
    """Make a data folder of a backup. A backup that is damaged leaves nothing behind.

    Raises PermanentError when the folder has something in it, or the file is no backup that this version can read.
    """
    folder = folder.absolute()
    is_new = not folder.exists()
    make_folder(folder)
    if any(folder.iterdir()) and not is_half_restored(folder):
        raise PermanentError(
            ErrorKind.STORE_UNAVAILABLE, f"{folder} has something in it; a backup is restored into a folder of its own."
        )
    # Within the folder, which may be a volume of its own. While it is there, nobody takes that for a Reelmap.
    staged = folder / RESTORING
    make_folder(staged)
    with FolderLock(staged, "a restore"):
        try:
            _empty(staged)
            shutil.rmtree(folder / BLOBS, ignore_errors=True)  # what an interrupted one had moved up already
            _check_room(folder, file.stat().st_size)
            contents = _unpack(file, staged, progress)
            _load(staged)
            os.sync()
            for part in (BLOBS, POSTGRES):
                (staged / part).rename(folder / part)
            shutil.rmtree(staged)
        except BaseException:
            shutil.rmtree(folder if is_new else staged, ignore_errors=True)
            raise
    return contents


def _names_blobs(connection: Connection) -> bool:
    return bool(connection.execute(text("SELECT EXISTS (TABLE key_frames) OR EXISTS (TABLE uploads)")).scalar())


class _Blobs:
    """Adds the blobs of a folder to an archive: all of them, and at the next call those that are new."""

    def __init__(self, folder: Path, archive: ArchiveWriter) -> None:
        self._folder = folder
        self._archive = archive
        self._young_since = time.time() - CLOCKS_DIFFER_S
        self._young: set[str] = set()  # those added that the second look would take for new
        self._is_first = True
        self.count = 0
        self.size_bytes = 0

    def add(self) -> None:
        for name, entry in _blob_files(self._folder):
            try:
                # When it got its name: changed by the rename that ends its writing, and never after.
                is_young = entry.stat().st_ctime >= self._young_since
                if name in self._young or not (self._is_first or is_young):
                    continue
                self.size_bytes += self._archive.add_file(BLOBS_PREFIX + name, Path(entry.path))
            except FileNotFoundError:  # deleted with its job
                continue
            self.count += 1
            if is_young:
                self._young.add(name)
        self._is_first = False


def _blob_files(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Names and files of all blobs, in the order of their names, but those that are still being written."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _blob_files(Path(entry.path), f"{prefix}{entry.name}/")
        elif not entry.name.startswith(tempfile.gettempprefix()):
            yield prefix + entry.name, entry


@contextmanager
def _snapshot(database_url: str) -> Iterator[str]:
    """The rows as they are now, for `pg_dump --snapshot`, kept for the length of the block."""
    connection = psycopg2.connect(_connection_words(database_url))
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_export_snapshot()")
            yield cursor.fetchone()[0]
    finally:
        connection.close()


@contextmanager
def _unfinished(file: Path) -> Iterator[Path]:
    """A folder beside the file, where there must be room anyway, for what becomes the file.

    Not hidden: of a backup that was killed it stays, until the next one of this name takes it over.
    Raises PermanentError when that is under way.
    """
    folder = file.absolute().with_name(f"{file.name}.unfinished")
    folder.mkdir(mode=0o700, exist_ok=True)
    with FolderLock(folder, "a backup"):
        _empty(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _empty(folder: Path) -> None:
    """Remove all that is in a folder but for our lock on it."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def _unpack(file: Path, folder: Path, progress: Progress) -> Contents:
    """Write the archive's members below the folder. Raises PermanentError unless all of them are whole."""
    blobs = FolderBlobs(folder / BLOBS)
    blobs.folder.mkdir(mode=0o700)
    count = size_bytes = 0
    members = read_archive(file, progress)
    first, content = next(members, ("", None))
    if content is None:
        raise damaged(file, "there is nothing in it")
    if first != MANIFEST:
        raise _not_ours(file, first)
    _check_manifest(file, _read_manifest(file, content))
    database_bytes = 0
    for name, content in members:
        try:
            if name == DUMP:
                database_bytes = _write(folder / DUMP, content)
            elif name.startswith(BLOBS_PREFIX):
                path = _blob_path(file, blobs, name.removeprefix(BLOBS_PREFIX))
                path.parent.mkdir(parents=True, exist_ok=True)
                size_bytes += _write(path, content)
                count += 1
            else:
                raise _not_ours(file, name)
        except (FileExistsError, NotADirectoryError) as error:
            raise damaged(file, f"{name} is in it twice, as a file or as a folder") from error
    if not database_bytes:
        raise damaged(file, f"{DUMP} is missing")
    return Contents(count, size_bytes, database_bytes, file.stat().st_size)


def _blob_path(file: Path, blobs: FolderBlobs, name: str) -> Path:
    try:
        return blobs.path(name)
    except ValueError:
        raise _not_ours(file, name) from None


def _not_ours(file: Path, name: str) -> PermanentError:
    return PermanentError(ErrorKind.BAD_PARAMETERS, f"{file} is not a backup of Reelmap: it holds {name!r}.")


def _read_manifest(file: Path, content: IO[bytes]) -> Manifest:
    text = content.read(MAX_MANIFEST_BYTES + 1)
    try:
        said = json.loads(text)
        # A later format may say more.
        manifest = Manifest(**{field.name: said[field.name] for field in fields(Manifest)})
        numbers = manifest.format, manifest.postgres
        words = manifest.reelmap, manifest.schema, manifest.created_at
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(file, f"{MANIFEST} in it cannot be read") from error
    is_whole = all(type(number) is int for number in numbers) and all(isinstance(word, str) for word in words)
    if len(text) > MAX_MANIFEST_BYTES or not is_whole:
        raise damaged(file, f"{MANIFEST} in it cannot be read")
    return manifest


def _check_manifest(file: Path, said: Manifest) -> None:
    if said.format > FORMAT or said.postgres > MAJOR_VERSION or said.schema not in known_revisions():
        raise PermanentError(
            ErrorKind.BAD_PARAMETERS,
            f"{file} was written by Reelmap {said.reelmap} with Postgres {said.postgres} and schema {said.schema}, "
            f"which is newer than this Reelmap {version('reelmap')}. Restore it with that version.",
        )


def _write(path: Path, content: IO[bytes]) -> int:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        shutil.copyfileobj(content, file, CHUNK_BYTES)
        return file.tell()


def _load(folder: Path) -> None:
    """Make the folder's Postgres of the dump that lies in it."""
    with Guard() as guard:
        server = EmbeddedPostgres(folder / POSTGRES, guard)
        try:
            _run("pg_restore", server.start(), "--exit-on-error", "--no-owner", str(folder / DUMP))
        finally:
            server.stop()
    (folder / DUMP).unlink()


def _run(name: str, database_url: str, *arguments: str) -> None:
    """Run one of Postgres' programs on a database."""
    done = subprocess.run(
        [program(name), f"--dbname={_connection_words(database_url)}", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DUMP_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        is_full = "No space left on device" in done.stderr
        raise PermanentError(
            ErrorKind.DISK_FULL if is_full else ErrorKind.STORE_UNAVAILABLE, f"{name} did not succeed: {said[-1]}"
        )


def _connection_words(database_url: str) -> str:
    """The embedded server's URL in the words of libpq; it has no password."""
    url = make_url(database_url)
    words: str = make_dsn(host=url.query["host"], user=url.username, dbname=url.database)
    return words


def _check_room(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise PermanentError(
            ErrorKind.DISK_FULL,
            f"{folder} has room for {free / 1e9:.1f} GB, and the backup holds {needed_bytes / 1e9:.1f} GB.",
        )
