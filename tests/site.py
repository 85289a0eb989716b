"""Clips whose shots are known, and a web server on this machine that serves them as slowly as it is asked to."""

from __future__ import annotations

import functools
import http.server
import io
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import av
import numpy as np

FRAMES_PER_SHOT = 30
PIECES = 40


def write_clip(path: Path, shots: Sequence[int]) -> None:
    """H.264, 25 frames/s; each shot slides slowly over its own texture."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 192, 108, "yuv420p"
        for shot in shots:
            texture = _texture(shot)
            for i in range(FRAMES_PER_SHOT):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:108, i : i + 192]), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _texture(number: int) -> np.ndarray:
    """uint8 RGB (108, 256, 3): large coloured blocks that no other number has."""
    blocks = np.random.default_rng(number).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    return blocks.repeat(27, axis=0).repeat(32, axis=1)


def write_clips(folder: Path, clips: Mapping[str, Sequence[int]]) -> None:
    """One clip for each name, and some files that are none: text, half a clip, nothing."""
    for name, shots in clips.items():
        write_clip(folder / f"{name}.mp4", shots)
    last = next(reversed(clips))
    (folder / "notes.mp4").write_text("These are not the frames you are looking for.\n" * 50)
    (folder / "half.mp4").write_bytes((folder / f"{last}.mp4").read_bytes()[:2000])
    (folder / "empty.mp4").write_bytes(b"")


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files, slower with `?slow_s=4`, and as another video of the same frames with `?copy=7`."""

    def log_message(self, *_: object) -> None:
        pass

    def send_head(self) -> Any:
        copy = self._asked("copy")
        path = Path(self.translate_path(self.path))
        if not copy or not path.is_file() or not path.stat().st_size:
            return super().send_head()
        # A box that players skip makes other bytes of the same frames: another video to whoever hashes.
        content = copy.encode()
        data = path.read_bytes() + (8 + len(content)).to_bytes(4, "big") + b"free" + content
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return io.BytesIO(data)

    def copyfile(self, source: Any, outputfile: Any) -> None:
        data = source.read()
        slow_s = float(self._asked("slow_s") or 0)
        pieces = PIECES if slow_s else 1
        for i in range(pieces):
            try:
                outputfile.write(data[len(data) * i // pieces : len(data) * (i + 1) // pieces])
            except OSError:  # the worker was killed or asked to stop
                return
            time.sleep(slow_s / pieces)

    def _asked(self, name: str) -> str:
        return parse_qs(urlsplit(self.path).query).get(name, [""])[0]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """A client that went away in the middle is what these tests are about."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The base URL of a server for the folder's files."""
    server = _Server(("127.0.0.1", 0), functools.partial(_Handler, directory=os.fspath(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
