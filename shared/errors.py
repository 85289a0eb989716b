"""The two ways work can fail, and what each says to a person.

The runner knows these two families and no others: a `PermanentError` would fail the same way again, so the task
is failed at once; a `TransientError` may go better later, so the task is queued again until its attempts are used up.
"""

from __future__ import annotations

from enum import StrEnum

from shared.clean_text import quoted


class ErrorKind(StrEnum):
    """A stable word for machines beside the sentence for people. New words may be added; none changes meaning."""

    # The URL or the server behind it
    UNSUPPORTED_URL = "unsupported_url"  # not http(s), malformed, or a site we cannot read
    PRIVATE_ADDRESS = "private_address"  # loopback or private network, refused by the settings
    UNREACHABLE = "unreachable"  # no DNS answer, refused, reset, timed out
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    SERVER_ERROR = "server_error"  # 5xx
    THROTTLED = "throttled"  # 429 and its relatives
    TOO_MANY_REDIRECTS = "too_many_redirects"
    # What a video site says of a video
    PRIVATE = "private"
    REMOVED = "removed"
    GEO_BLOCKED = "geo_blocked"
    AGE_RESTRICTED = "age_restricted"
    LOGIN_REQUIRED = "login_required"
    BOT_CHECK = "bot_check"
    LIVE_STREAM = "live_stream"
    PLAYLIST = "playlist"  # one URL that names many videos
    DRM_PROTECTED = "drm_protected"
    # The bytes
    TOO_LARGE = "too_large"
    TOO_LONG = "too_long"  # the video's duration, not our patience
    EMPTY = "empty"  # zero bytes
    CHANGED = "changed"  # while it was read
    ARCHIVED = "archived"  # in a bucket, and must be restored before it can be read
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO_STREAM = "no_video_stream"
    DAMAGED = "damaged"  # a video, but no frame could be read
    UPLOAD_MISSING = "upload_missing"
    # Our own work
    DECODER_CRASHED = "decoder_crashed"
    DEADLINE = "deadline"  # took longer than the stage allows
    WORKER_LOST = "worker_lost"  # the lease expired without a word
    DEVICE_LOST = "device_lost"  # the GPU failed under the process
    DISK_FULL = "disk_full"
    STORE_UNAVAILABLE = "store_unavailable"  # database, broker or blob store
    WEIGHTS_MISSING = "weights_missing"
    WEIGHTS_CHANGED = "weights_changed"
    BAD_PICTURE = "bad_picture"
    TOO_MANY_VECTORS = "too_many_vectors"
    NO_VECTORS = "no_vectors"
    BAD_VECTORS = "bad_vectors"  # NaN or infinite
    NOTHING_TO_EXPORT = "nothing_to_export"
    PICTURES_MISSING = "pictures_missing"  # deleted while they were exported, or lost by the store
    BAD_PARAMETERS = "bad_parameters"
    INTERNAL = "internal"  # a defect of ours; the log has the details


#: What somebody or something may mend meanwhile, so that it is worth a person's while to try again as it is.
MAY_PASS = frozenset(
    {
        ErrorKind.UNREACHABLE,
        ErrorKind.SERVER_ERROR,
        ErrorKind.THROTTLED,
        ErrorKind.BOT_CHECK,
        ErrorKind.LIVE_STREAM,
        ErrorKind.CHANGED,
        ErrorKind.ARCHIVED,
        ErrorKind.DECODER_CRASHED,
        ErrorKind.DEADLINE,
        ErrorKind.WORKER_LOST,
        ErrorKind.DEVICE_LOST,
        ErrorKind.DISK_FULL,
        ErrorKind.STORE_UNAVAILABLE,
        ErrorKind.WEIGHTS_MISSING,
        ErrorKind.INTERNAL,
    }
)


class ReelmapError(Exception):
    """Base of the errors that are shown to people.

    message: one sentence: what happened, to which item, what to do.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple[type[ReelmapError], tuple[ErrorKind, str]]:
        return (type(self), (self.kind, self.message))


class PermanentError(ReelmapError):
    """It would fail the same way again: give up."""


class TransientError(ReelmapError):
    """It may go better later: try again.

    retry_after_s: the least seconds to wait, where the other side named a time.
    """

    def __init__(self, kind: ErrorKind, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(kind, message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[TransientError], tuple[ErrorKind, str, float | None]]:  # type: ignore[override]
        return (type(self), (self.kind, self.message, self.retry_after_s))


def one_line(error: BaseException) -> str:
    """What an error says, in one line that is not too long for a log or a table; its kind where it says nothing.

    Of an error that SQLAlchemy wraps, what the driver said: not the statement.
    """
    return quoted(str(getattr(error, "orig", None) or error)) or type(error).__name__


class ProcessSpoiled(TransientError):
    """It may go better later, in another process: this one has lost what it cannot get back, its GPU for one."""
