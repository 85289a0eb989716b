"""A file and a server that notice when they are touched."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

IN_ACCESS, IN_OPEN = 0x1, 0x20


class Canary:
    """A context manager. `file` and `url` are there to be named by hostile files; `touched` says which were used."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._opened = 0
        self._connections = 0

    def __enter__(self) -> Canary:
        self.file.write_bytes(b"canary" * 1000)
        libc = ctypes.CDLL(None, use_errno=True)
        self._notices = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        watch = libc.inotify_add_watch(self._notices, os.fsencode(self.file), IN_ACCESS | IN_OPEN)
        assert watch > 0, os.strerror(ctypes.get_errno())
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/canary"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()
        os.close(self._notices)

    def touched(self) -> set[str]:
        """Which of "file" and "server" were used until now."""
        with suppress(BlockingIOError):
            self._opened += len(os.read(self._notices, 65536))
        # Our own connection comes after every other, so that none can still be on its way.
        with socket.create_connection(("127.0.0.1", self.port)) as own:
            own.sendall(b"own")
            own.recv(1)
        return {name for name, count in (("file", self._opened), ("server", self._connections)) if count}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                if connection.recv(3) != b"own":
                    self._connections += 1
