"""The process behind `Decoder`: `python -m services.keyframes.cell.decoder_process`.

It holds every library, reads no video, and forks a child for each: the child gives up its rights, reads the one video,
answers and is gone, with whatever the video did to it. Requests come as one JSON line each on stdin. Two JSON lines on
stdout answer each: first `{"pid": …}` of the child, then `{"status": …, "answer": …}`, how it ended and what it said.
When stdin ends, also in the middle of a video, the child is killed and the process ends: neither outlives the client.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

STDIN, STDOUT, STDERR = 0, 1, 2
# More than the key frames of the longest video take; a child that says more has lost its mind.
MAX_ANSWER_BYTES = 256 * 2**20


def main() -> None:
    """Answer requests until stdin ends."""
    _load_everything()
    # Answers go to the real stdout; what a library prints goes to stderr and cannot be taken for an answer.
    with os.fdopen(os.dup(STDOUT), "wb") as answers:
        os.dup2(STDERR, STDOUT)
        while request := _read_request():
            _serve(json.loads(request), answers)


def _load_everything() -> None:
    """Import what the children need, so that they share it."""
    import av.logging
    import cv2

    from services.keyframes import extraction
    from services.keyframes.cell import sandbox
    from services.keyframes.choosing import signatures  # noqa: F401

    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.ERROR)
    for strategy in extraction.strategy_names():
        extraction.load_strategy(strategy)
    sandbox.prepare()
    gc.collect()
    gc.freeze()  # what the collector does not touch stays shared


def _read_request() -> bytes:
    """The next line of stdin; nothing when stdin ended. Reads no further, so that `_serve` sees the end."""
    request = bytearray()
    while not request.endswith(b"\n"):
        chunk = os.read(STDIN, 65536)
        if not chunk:
            return b""
        request += chunk
    return bytes(request)


def _serve(request: Mapping[str, Any], answers: BinaryIO) -> None:
    parent_pid = os.getpid()
    reading, writing = os.pipe()
    child_pid = os.fork()
    if not child_pid:
        os.close(reading)
        answers.close()  # what the video's author may get hold of does not lead to the client
        _read_video(request, writing, parent_pid)
    os.close(writing)
    _send(answers, {"pid": child_pid})
    answer = _listen(child_pid, reading)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child_pid, 0)[1])
    _send(answers, {"status": status, "answer": answer.decode(errors="replace")})


def _send(answers: BinaryIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


def _listen(child_pid: int, reading: int) -> bytes:
    """What the child says until it closes its end. The child may be in the hands of the video's author by then."""
    answer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(STDIN, selectors.EVENT_READ)
        selector.register(reading, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == STDIN:  # no client sends a second request before the first is answered: it is gone
                    os.kill(child_pid, signal.SIGKILL)
                    os.waitpid(child_pid, 0)
                    sys.exit()
                chunk = os.read(reading, 65536)
                answer += chunk
                if not chunk:
                    return bytes(answer)
                if len(answer) > MAX_ANSWER_BYTES:
                    os.kill(child_pid, signal.SIGKILL)
                    return b""


def _read_video(request: Mapping[str, Any], writing: int, parent_pid: int) -> NoReturn:
    """What the child does. Nothing of the request's video is touched before the walls stand."""
    from services.keyframes.cell import sandbox
    from services.keyframes.reading.limits import DecodeLimits

    exit_code = 1
    try:
        os.close(STDIN)
        os.open(os.devnull, os.O_RDONLY)  # takes the number of stdin
        limits = DecodeLimits(**request["limits"])
        allowance = sandbox.Allowance(
            read=Path(request["path"]),
            write=Path(request["out_dir"]),
            memory_bytes=limits.max_memory_bytes,
            cpu_s=limits.max_cpu_s,
        )
        sandbox.confine(allowance, parent_pid)
        answer = json.dumps(_answer(request, limits)).encode()
        with os.fdopen(writing, "wb") as answers:
            answers.write(answer)
        exit_code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # Nothing that the parent registered for its own end may run here.
        os._exit(exit_code)


def _answer(request: Mapping[str, Any], limits: Any) -> dict[str, Any]:
    from services.keyframes.extraction import extract
    from services.keyframes.reading.limits import out_of_memory
    from shared.errors import ErrorKind, PermanentError, ReelmapError

    error: ReelmapError
    try:
        extraction = extract(
            request["path"],
            request["out_dir"],
            request["strategy"],
            request["parameters"],
            limits,
            request["picture_px"],
            request["with_scores"],
        )
        return {"extraction": extraction.to_json()}
    except ReelmapError as raised:
        error = raised
    except Exception as raised:
        if _is_out_of_memory(raised):
            error = out_of_memory(limits)
        else:
            traceback.print_exc()
            error = PermanentError(
                ErrorKind.INTERNAL,
                f"The decoder failed because of a defect of ours ({type(raised).__name__}). Our log has the details.",
            )
    return {
        "error": {"kind": error.kind, "message": error.message, "is_transient": not isinstance(error, PermanentError)}
    }


def _is_out_of_memory(error: Exception) -> bool:
    import cv2

    return isinstance(error, MemoryError) or (
        isinstance(error, cv2.error) and getattr(error, "code", None) == cv2.Error.StsNoMem
    )


if __name__ == "__main__":
    main()
