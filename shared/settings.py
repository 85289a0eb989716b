"""Every setting of every process: the only reader of the environment.

A setting `lease_s` is read from `REELMAP_LEASE_S`. A name that no setting has is refused, so that a typing mistake
does not pass as a default. A secret may also be in a file, named by the same variable with `_FILE` at its end, as
containers get theirs: what stands in the environment is seen by every child and by whoever inspects the container.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from shared.buckets import BucketPlace, parse_place
from shared.pipeline import Stage

PREFIX = "REELMAP_"
FILE_SUFFIX = "_FILE"
#: Read by the tests and by the installation, never by a process.
NOT_SETTINGS = frozenset({"REELMAP_DATA_DIR"})
MEBIBYTE = 1024 * 1024
#: Who may ask the API.
ACCESS = ("keys", "open")
#: A shorter secret could be guessed from one cookie.
MIN_COOKIE_SECRET = 32


class SettingError(ValueError):
    """A setting cannot be used; the message names the variable, the value and what is expected."""


def _secret() -> Any:
    """A text that nobody may see, which may be given by the name of a file."""
    return field(default="", repr=False, metadata={"secret": True})


@dataclass(frozen=True)
class Settings:
    """One process's settings; see docs/operations.md for the table of them."""

    # Servers and folders
    database_url: str = _secret()  # postgresql+psycopg2://...
    database_password: str = _secret()  # put into the URL when settings are loaded
    redis_url: str = _secret()  # redis://...
    redis_password: str = _secret()  # put into the URL when settings are loaded
    # Where pictures and uploads live, see docs/storage.md: in a folder, or in "bucket" or "bucket/prefix"
    blobs_folder: Path | None = None
    blobs_bucket: str = ""
    work_folder: Path | None = None  # downloads on their way through; below the system's temporary folder when unset
    weights_dir: Path | None = None  # folder of model weights
    hub: bool = True  # whether weights may come from the public hubs
    own_models: Mapping[str, Any] = None  # type: ignore[assignment]  # JSON object, see docs/models.md

    # Object storage
    s3_endpoint: str = ""  # http(s)://host:port of what speaks S3; AWS when unset
    s3_public_endpoint: str = ""  # the same store as browsers reach it; s3_endpoint when unset
    s3_region: str = ""
    s3_access_key: str = _secret()  # both keys unset: those that boto3 finds, such as the role of a pod
    s3_secret_key: str = _secret()
    s3_sources: str = ""  # "bucket/prefix, other-bucket": which s3:// addresses jobs may name

    # State
    lease_s: float = 60
    heartbeat_s: float = 20
    backoff_s: float = 10  # first wait after a transient error; four times longer each further time
    keyframes_deadline_s: float = 1800
    embedding_deadline_s: float = 300
    clustering_deadline_s: float = 3600
    exports_deadline_s: float = 3600
    stop_grace_s: float = 10  # how long a task may go on after the worker was asked to stop

    # Dispatch
    dispatch_interval_s: float = 1
    sent_window: int = 500  # sent and unclaimed messages per queue
    fetches_per_host: int = 4
    resend_after_s: float = 60

    # Fetching
    allow_private_hosts: bool = False
    fetch_ports: str = "80,443"  # of hosts on the open internet; "any" for every port
    allow_generic_extractor: bool = False  # let yt-dlp search pages of sites it does not know
    max_video_bytes: int = 2048 * MEBIBYTE
    max_video_s: float = 4 * 3600
    max_redirects: int = 5
    fetch_timeout_s: float = 1500

    # Workers
    keyframes_processes: int = 2
    stall_after_s: float = 300  # how long messages may wait for a worker that is idle
    device: str = "auto"  # auto, cpu, cuda, cuda:1

    # API
    api_host: str = "127.0.0.1"
    api_port: int = 8000
    max_upload_bytes: int = 2048 * MEBIBYTE
    query_wait_s: float = 10
    exports_kept_days: float = 7  # how long the file of an export is kept

    alive_file: Path | None = None  # touched while the process lives; none is written when unset
    # Access, see docs/access.md
    # keys: who asks shows a key; open: nobody does, and only this machine is answered; unset: a server asks for keys,
    # and `reelmap up` is open where only this machine can ask
    access: str = ""
    cookie_secret: str = _secret()  # what sign-ins are signed with; the same for every API process
    session_s: float = 3600  # how long a sign-in that is not used lasts
    requests_per_minute: int = 1200  # of one key; 0: as many as it likes
    wrong_keys_per_minute: int = 20  # from one address; 0: as many as it likes
    trusted_proxies: int = 0  # proxies in front of the API whose X-Forwarded-... headers are believed
    server: str = ""  # which API the command line talks to
    key: str = _secret()  # what the command line shows to the API

    log_level: str = "INFO"
    failpoints_folder: Path | None = None  # for tests of faults only, see shared/failpoints.py

    def require(self, *names: str) -> None:
        """Raise `SettingError` unless each of the named settings has a value."""
        for name in names:
            if not getattr(self, name):
                raise SettingError(f"{PREFIX}{name.upper()} is not set; it is needed by this process")

    def deadline_s(self, stage: Stage) -> float:
        """Seconds that one task of the stage may take."""
        return float(getattr(self, stage.deadline_setting))

    @property
    def scratch_folder(self) -> Path:
        """Where processes of this machine make the folders that they work in."""
        return self.work_folder or Path(tempfile.gettempdir(), "reelmap")

    @property
    def blobs_place(self) -> BucketPlace | None:
        """Where in an object store pictures and uploads live; None for a folder."""
        return parse_place(self.blobs_bucket) if self.blobs_bucket else None

    @property
    def s3_source_places(self) -> tuple[BucketPlace, ...]:
        """Where in an object store jobs may take videos from."""
        return tuple(parse_place(text) for text in self.s3_sources.split(",")) if self.s3_sources.strip() else ()

    @property
    def fetch_port_numbers(self) -> frozenset[int] | None:
        """The ports that may be fetched from; None for every port."""
        if self.fetch_ports.strip().lower() == "any":
            return None
        return frozenset(_port(text) for text in self.fetch_ports.split(","))

    def to_environ(self) -> dict[str, str]:
        """The environment variables that make another process read these settings."""
        environ = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None:
                continue
            if isinstance(value, bool):
                value = "yes" if value else "no"
            elif isinstance(value, Mapping):
                value = json.dumps(dict(value))
            environ[PREFIX + each.name.upper()] = str(value)
        return environ


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What a process is handed beside settings that were made for it: a setting of ours would mix with them."""
    return {variable: text for variable, text in environ.items() if not variable.startswith(PREFIX)}


def variable_of(setting: Field[Any]) -> str:
    """The environment variable of a setting."""
    return PREFIX + setting.name.upper()


def file_variable_of(setting: Field[Any]) -> str:
    """The environment variable that names the file of a secret."""
    return variable_of(setting) + FILE_SUFFIX


def is_secret(setting: Field[Any]) -> bool:
    """Whether the setting may be given by the name of a file."""
    return bool(setting.metadata.get("secret"))


def _content(variable: str, path: Path) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingError(f"{variable} names {path}, which cannot be read: {reason}") from None
    if not text:
        raise SettingError(f"{variable} names {path}, which is empty")
    return text


def _with_password(url: str, password: str, name: str) -> str:
    """The server's address with the password in it, whatever characters that has."""
    if not password:
        return url
    parts = urlsplit(url)
    if not parts.scheme:
        raise SettingError(f"{PREFIX}{name}_PASSWORD is set, and {PREFIX}{name}_URL, which it belongs to, is not")
    user_and_old, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user_and_old.partition(':')[0]}:{quote(password, safe='')}@{host}").geturl()


def _truth(text: str) -> bool:
    words = {"yes": True, "true": True, "1": True, "on": True, "no": False, "false": False, "0": False, "off": False}
    return words[text.strip().lower()]


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError(text)
    return port


def _json_object(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


#: Annotation of a field -> how its text is read, and what a person is told is expected.
_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (_truth, "yes or no"),
    "Path | None": (lambda text: Path(text).expanduser().absolute() if text else None, "a path"),
    "Mapping[str, Any]": (_json_object, "a JSON object"),
}


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (the process's own environment when left out).

    Raises `SettingError` naming the variable, its value and what is expected.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {"own_models": {}}
    by_variable = {variable_of(each): each for each in fields(Settings)}
    by_file_variable = {file_variable_of(each): each for each in fields(Settings) if is_secret(each)}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        if (secret := by_file_variable.get(variable)) is not None:
            if variable_of(secret) in environ:
                raise SettingError(f"{variable} and {variable_of(secret)} are both set; set one of them")
            values[secret.name] = _content(variable, Path(text))
            continue
        known = by_variable.get(variable)
        if known is None:
            raise SettingError(f"{variable} is not a setting of Reelmap; known are: {', '.join(sorted(by_variable))}")
        read, expected = _READERS[str(known.type)]
        try:
            values[known.name] = read(text)
        except (ValueError, KeyError):
            raise SettingError(f"{variable} is {text!r}; expected {expected}") from None
    return _checked(Settings(**values))


def _checked(settings: Settings) -> Settings:
    if settings.database_url and not settings.database_url.startswith("postgresql+psycopg2://"):
        # A bare postgresql:// means another driver since SQLAlchemy 2.1.
        scheme = settings.database_url.split(":", 1)[0]
        raise SettingError(f"{PREFIX}DATABASE_URL starts with {scheme}:; it must start with postgresql+psycopg2://")
    try:
        _ = settings.fetch_port_numbers
    except ValueError:
        raise SettingError(
            f"{PREFIX}FETCH_PORTS is {settings.fetch_ports!r}; expected ports with commas between them, or any"
        ) from None
    _check_object_storage(settings)
    if settings.heartbeat_s * 2 >= settings.lease_s:
        raise SettingError(
            f"{PREFIX}HEARTBEAT_S is {settings.heartbeat_s:g}; it must be below half of "
            f"{PREFIX}LEASE_S ({settings.lease_s:g}), or one missed renewal loses a running task"
        )
    if settings.access not in ("", *ACCESS):
        raise SettingError(f"{PREFIX}ACCESS is {settings.access!r}; expected {' or '.join(ACCESS)}")
    if 0 < len(settings.cookie_secret) < MIN_COOKIE_SECRET:
        raise SettingError(
            f"{PREFIX}COOKIE_SECRET is too short; take at least {MIN_COOKIE_SECRET} random characters, "
            "for example those of `openssl rand -hex 32`"
        )
    return replace(
        settings,
        database_url=_with_password(settings.database_url, settings.database_password, "DATABASE"),
        database_password="",
        redis_url=_with_password(settings.redis_url, settings.redis_password, "REDIS"),
        redis_password="",
    )


def _check_object_storage(settings: Settings) -> None:
    try:
        _ = settings.blobs_place
    except ValueError:
        raise SettingError(
            f"{PREFIX}BLOBS_BUCKET is {settings.blobs_bucket!r}; expected the name of a bucket, or bucket/prefix"
        ) from None
    try:
        places = settings.s3_source_places
    except ValueError:
        raise SettingError(
            f"{PREFIX}S3_SOURCES is {settings.s3_sources!r}; expected buckets, or bucket/prefix, with commas between"
        ) from None
    own = settings.blobs_place
    for place in places:
        if own and own.overlaps(place):
            raise SettingError(
                f"{PREFIX}S3_SOURCES opens {place.bucket}/{place.prefix}, where the pictures and uploads of all "
                f"projects are ({PREFIX}BLOBS_BUCKET); give them a bucket or a prefix of their own"
            )
    for name in ("s3_endpoint", "s3_public_endpoint"):
        endpoint = getattr(settings, name)
        parts = urlsplit(endpoint)
        if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/")):
            raise SettingError(
                f"{PREFIX}{name.upper()} is {endpoint!r}; expected http(s)://host or http(s)://host:port"
            )
    if bool(settings.s3_access_key) != bool(settings.s3_secret_key):
        raise SettingError(
            f"one of {PREFIX}S3_ACCESS_KEY and {PREFIX}S3_SECRET_KEY is set; set both, or neither to use the role "
            "that the machine or pod has"
        )
