"""Decodes away from the worker, so that a crash of FFmpeg, or worse, is one failed video and not a lost worker.

`Decoder` is the client of `services.keyframes.cell.decoder_process`, which gives each video a confined process
of its own.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from services.keyframes.cell import sandbox
from services.keyframes.extraction import ANALYSIS_PX, Extraction, picture_files, scores_file
from services.keyframes.reading.frames import VideoFacts
from services.keyframes.reading.limits import DecodeLimits
from shared.catalog import DEFAULT_STRATEGY
from shared.clean_text import one_clean_line
from shared.errors import ErrorKind, PermanentError, ReelmapError, TransientError

CHECK_EVERY_S = 1.0
KEPT_STDERR_BYTES = 4096
MAX_MESSAGE_CHARACTERS = 2000
# Of a video's facts: FFmpeg's names and our own sentences.
MAX_FACT_CHARACTERS = 500
MAX_NOTES = 20
HELPER_ENVIRONMENT = (
    # One process per core is the plan, and what has threads cannot be forked.
    "OPENBLAS_NUM_THREADS=1",
    "OMP_NUM_THREADS=1",
    # Each video's process fills its memory afresh; in large pages that costs a third.
    "GLIBC_TUNABLES=glibc.malloc.hugetlb=1",
)
# How long the helper may take to kill its child and end by itself. It needs milliseconds, unless it is just starting.
END_S = 1.0

# In a tuple, because a dataclass alone takes no settings from outside.
_EXTRACTIONS = TypeAdapter(tuple[Extraction], config=ConfigDict(strict=True, allow_inf_nan=False))

log = logging.getLogger(__name__)


def never_stop() -> None:
    """The check of a caller who waits for as long as it takes."""


class Decoder:
    """Extracts key frames, each video in a process of its own that may read that one file and write its pictures.

    A helper process, started when first needed, makes those processes. For use by one thread. A context manager;
    `close` ends the helper.

    helper_pid, reader_pid: the ids of the helper and of the process that reads a video, None while there is none.
    """

    def __init__(self) -> None:
        self.reader_pid: int | None = None
        self._helper: subprocess.Popen[bytes] | None = None

    @property
    def helper_pid(self) -> int | None:
        return self._helper.pid if self._helper is not None else None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def extract(
        self,
        path: Path | str,
        out_dir: Path | str,
        strategy: str = DEFAULT_STRATEGY,
        parameters: Mapping[str, Any] | None = None,
        limits: DecodeLimits | None = None,
        check: Callable[[], None] = never_stop,
        picture_px: int | None = ANALYSIS_PX,
        with_scores: bool = False,
    ) -> Extraction:
        """Do as `services.keyframes.extraction.extract` does, in a confined process.

        check: called about once a second; when it raises, the process is killed and the exception goes to the caller.
        Raises what `extract` raises, and PermanentError: DECODER_CRASHED when the process dies, DEADLINE when the video
        takes longer than `limits` allow, TOO_LARGE when it takes more memory.
        """
        limits = limits or DecodeLimits()
        path, out_dir = Path(path).resolve(), Path(out_dir).resolve()
        out_dir.mkdir(parents=True, exist_ok=True)
        request = {
            "path": str(path),
            "out_dir": str(out_dir),
            "strategy": strategy,
            "parameters": dict(parameters or {}),
            "limits": asdict(limits),
            "picture_px": picture_px,
            "with_scores": with_scores,
        }
        try:
            status, answer, last_words = self._ask(request, _within(limits.max_wall_s, check))
        except BaseException:
            self.close()
            raise
        finally:
            self.reader_pid = None
        if status == -signal.SIGXCPU:
            raise _took_too_long(f"{limits.max_cpu_s:,} seconds of computing")
        if status:
            raise _crashed(_reason(status), last_words)
        return _read_answer(answer, out_dir, with_scores)

    def close(self) -> None:
        """End the helper, and with it the process that reads a video; a later call of `extract` starts a new one."""
        helper, self._helper = self._helper, None
        if helper is None:
            return
        assert helper.stdin is not None and helper.stdout is not None and helper.stderr is not None
        # The end of its stdin makes the helper kill its child by id, wherever that has got to.
        with suppress(BrokenPipeError):
            helper.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            helper.wait(END_S)
        with suppress(ProcessLookupError):
            os.killpg(helper.pid, signal.SIGKILL)
        helper.wait()
        helper.stdout.close()
        helper.stderr.close()

    def _ask(self, request: Mapping[str, Any], check: Callable[[], None]) -> tuple[int, str, bytes]:
        """Return how the process that read the video ended, what it answered, and the last that it wrote to stderr."""
        helper = self._running_helper()
        assert helper.stdin is not None and helper.stdout is not None and helper.stderr is not None
        last_words: deque[int] = deque(maxlen=KEPT_STDERR_BYTES)
        said = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(helper.stdout, selectors.EVENT_READ)
            selector.register(helper.stderr, selectors.EVENT_READ)
            try:
                helper.stdin.write(json.dumps(request).encode() + b"\n")
                helper.stdin.flush()
            except BrokenPipeError as error:
                raise _crashed(_reason(helper.wait()), b"") from error
            check_at = time.monotonic() + CHECK_EVERY_S
            while True:
                for key, _ in selector.select(max(0.0, check_at - time.monotonic())):
                    chunk = os.read(key.fd, 65536)
                    if key.fileobj is helper.stderr:
                        last_words.extend(chunk)
                        if not chunk:
                            selector.unregister(helper.stderr)
                        continue
                    if not chunk:
                        raise _crashed(_reason(helper.wait()), bytes(last_words))
                    said += chunk
                    if self.reader_pid is None and b"\n" in said:
                        first, _, said = said.partition(b"\n")
                        self.reader_pid = json.loads(first)["pid"]
                if said.endswith(b"\n"):
                    break
                if time.monotonic() >= check_at:
                    check()
                    check_at = time.monotonic() + CHECK_EVERY_S
            while any(key.fileobj is helper.stderr for key, _ in selector.select(0)):
                last_words.extend(os.read(helper.stderr.fileno(), 65536))
        outcome = json.loads(said)
        return outcome["status"], outcome["answer"], bytes(last_words)

    def _running_helper(self) -> subprocess.Popen[bytes]:
        if self._helper is not None and self._helper.poll() is not None:
            self.close()  # it died while idle, which says nothing about the next video
        if self._helper is None:
            for sentence in sandbox.missing_walls():
                log.warning("%s", sentence)
            self._helper = subprocess.Popen(
                ["env", *HELPER_ENVIRONMENT, sys.executable, "-m", "services.keyframes.cell.decoder_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=Path(__file__).parents[3],  # where `services` is found, installed or not
                start_new_session=True,
            )
        return self._helper


def _within(max_wall_s: float, check: Callable[[], None]) -> Callable[[], None]:
    """The check, and after so many seconds an error."""
    deadline = time.monotonic() + max_wall_s

    def check_both() -> None:
        check()
        if time.monotonic() >= deadline:
            raise _took_too_long(f"{max_wall_s:,.0f} seconds")

    return check_both


def _read_answer(answer: str, out_dir: Path, with_scores: bool = False) -> Extraction:
    """The extraction, or raise the error, that the process reports.

    A video that took its process over says what it likes, so nothing is believed of the answer that matters outside.
    """
    error: ReelmapError | None = None
    try:
        said = json.loads(answer)
        if "error" in said:
            error = _error(said["error"])
        else:
            (extraction,) = _EXTRACTIONS.validate_json(json.dumps([said["extraction"]]))
            _check_words(extraction.facts)
            for key_frame in extraction.key_frames:
                written = [key_frame.file, key_frame.small_file, key_frame.analysis_file]
                files = [file for file in written if file is not None]
                if tuple(files) != picture_files(out_dir, key_frame.frame_index)[: len(files)]:
                    raise ValueError(f"{key_frame.file} is not where pictures are written")
                if not all(stat.S_ISREG(file.lstat().st_mode) for file in files):
                    raise ValueError(f"{key_frame.file} is not a file")
            if with_scores and not stat.S_ISREG(scores_file(out_dir).lstat().st_mode):
                raise ValueError(f"{scores_file(out_dir)} is not a file")
            return extraction
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as nonsense:
        raise _crashed("its answer makes no sense", repr(nonsense).encode()) from nonsense
    raise error


def _check_words(facts: VideoFacts) -> None:
    """Raise ValueError for words that nobody here would say: they are kept, and shown to people."""
    if len(facts.notes) > MAX_NOTES:
        raise ValueError(f"{len(facts.notes)} notes")
    for words in (facts.container, facts.codec, facts.pixel_format, *facts.notes):
        if len(words) > MAX_FACT_CHARACTERS or words != one_clean_line(words):
            raise ValueError(f"{words[:MAX_FACT_CHARACTERS]!r} is no fact")


def _error(said: Mapping[str, Any]) -> ReelmapError:
    family = TransientError if said["is_transient"] else PermanentError
    return family(ErrorKind(said["kind"]), one_clean_line(str(said["message"])[:MAX_MESSAGE_CHARACTERS]))


def _reason(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit code {status}"


def _crashed(reason: str, last_words: bytes) -> PermanentError:
    log.warning("a decoder ended: %s; its last words: %s", reason, last_words.decode(errors="replace"))
    return PermanentError(
        ErrorKind.DECODER_CRASHED,
        f"The decoder crashed while it read this video ({reason}). The file is damaged or made to do harm, or memory "
        "ran out. Convert it, to H.264 for example, and send that.",
    )


def _took_too_long(limit: str) -> PermanentError:
    return PermanentError(
        ErrorKind.DEADLINE,
        f"Reading this video takes longer than the {limit} that are allowed. Send it in parts, or a smaller version.",
    )
