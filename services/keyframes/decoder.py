"""Decodes in a process of its own, so that a crash of FFmpeg is one failed video and not a lost worker.

`Decoder` is the client. `python -m services.keyframes.decoder` is the process: it reads one JSON request a line from
stdin and answers each with one JSON line on stdout, until stdin ends, which also ends it in the middle of a video: so
it never outlives its client.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from services.keyframes.extraction import DEFAULT_STRATEGY, Extraction, extract
from services.keyframes.frames import DecodeLimits
from shared.errors import ErrorKind, PermanentError, ReelmapError, TransientError

# Decoders leak a little; a fresh process costs about a second of CPU.
VIDEOS_PER_PROCESS = 200
CHECK_EVERY_S = 1.0
KEPT_STDERR_BYTES = 4096

log = logging.getLogger(__name__)


def never_stop() -> None:
    """The check of a caller who waits for as long as it takes."""


class Decoder:
    """Extracts key frames in a helper process, started when first needed and replaced after an error or 200 videos.

    For use by one thread. A context manager; `close` ends the process.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._videos = 0

    @property
    def pid(self) -> int | None:
        """The helper process's id, or None while there is none."""
        return self._process.pid if self._process is not None else None

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
    ) -> Extraction:
        """Do as `services.keyframes.extraction.extract` does, in the helper process.

        check: called about once a second; when it raises, the process is killed and the exception goes to the caller.
        Raises what `extract` raises, and PermanentError(DECODER_CRASHED) when the process dies.
        """
        request = {
            "path": str(Path(path).resolve()),
            "out_dir": str(Path(out_dir).resolve()),
            "strategy": strategy,
            "parameters": dict(parameters or {}),
            "limits": asdict(limits or DecodeLimits()),
        }
        try:
            answer = self._ask(request, check)
            if "error" in answer:
                raise _error(answer["error"])
        except BaseException:
            self._kill()
            raise
        self._videos += 1
        if self._videos >= VIDEOS_PER_PROCESS:
            self.close()
        return Extraction.from_json(answer["extraction"])

    def close(self) -> None:
        """End the process; a later call of `extract` starts a new one."""
        self._kill()

    def _ask(self, request: Mapping[str, Any], check: Callable[[], None]) -> Any:
        process = self._running_process()
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        last_words: deque[int] = deque(maxlen=KEPT_STDERR_BYTES)
        answer = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError as error:
                raise _crashed(process, bytes(last_words)) from error
            check_at = time.monotonic() + CHECK_EVERY_S
            while not answer.endswith(b"\n"):
                for key, _ in selector.select(max(0.0, check_at - time.monotonic())):
                    chunk = os.read(key.fd, 65536)
                    if key.fileobj is process.stdout:
                        answer += chunk
                        if not chunk:
                            raise _crashed(process, bytes(last_words))
                    elif chunk:
                        last_words.extend(chunk)
                    else:
                        selector.unregister(process.stderr)
                if time.monotonic() >= check_at:
                    check()
                    check_at = time.monotonic() + CHECK_EVERY_S
        return json.loads(answer)

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._kill()  # it died while idle, which says nothing about the next video
        if self._process is None:
            self._videos = 0
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.keyframes.decoder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=Path(__file__).parents[2],  # where `services` is found, installed or not
                start_new_session=True,
            )
        return self._process

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def _crashed(process: subprocess.Popen[bytes], last_words: bytes) -> PermanentError:
    code = process.wait()
    reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    log.warning(
        "decoder process %d ended: %s; its last words: %s", process.pid, reason, last_words.decode(errors="replace")
    )
    return PermanentError(
        ErrorKind.DECODER_CRASHED,
        f"The decoder crashed while it read this video ({reason}). The file is damaged or made to do harm, or memory "
        "ran out. Convert it, to H.264 for example, and send that.",
    )


def _error(answer: Mapping[str, Any]) -> ReelmapError:
    family = TransientError if answer["is_transient"] else PermanentError
    return family(ErrorKind(answer["kind"]), answer["message"])


def main() -> None:
    """Answer requests until stdin ends."""
    import av.logging
    import cv2

    # One process per core is the plan; threads in each would only compete.
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.ERROR)
    # Answers go to the real stdout; what a library prints goes to stderr and cannot be taken for an answer.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
        while True:
            answer = json.dumps(_answer(json.loads(requests.get()))).encode() + b"\n"
            answers.write(answer)
            answers.flush()


def _read_requests(requests: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)  # the client is gone, and so is the reason to finish


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        limits = DecodeLimits(**request["limits"])
        extraction = extract(request["path"], request["out_dir"], request["strategy"], request["parameters"], limits)
    except ReelmapError as error:
        is_transient = isinstance(error, TransientError)
        return {"error": {"kind": error.kind, "message": error.message, "is_transient": is_transient}}
    except Exception as error:
        traceback.print_exc()
        message = f"The decoder failed because of a defect of ours ({type(error).__name__}). Our log has the details."
        return {"error": {"kind": ErrorKind.INTERNAL, "message": message, "is_transient": False}}
    return {"extraction": extraction.to_json()}


if __name__ == "__main__":
    main()
