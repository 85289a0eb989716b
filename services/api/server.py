"""The API's process: gunicorn with threads, `python -m services.api.server`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from services.api import wire
from services.api.access import check_settings
from services.api.app import create_app
from shared.blob_stores import open_blobs
from shared.logs import configure_logging
from shared.settings import Settings, load_settings
from shared.startup import explained
from shared.work_folders import gc

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

#: Searches that wait and slow uploads hold a thread each, so there are many threads and few processes.
WORKERS, THREADS = 2, 16

#: Open connections of a worker, most of them waiting for a next request. Each is a descriptor, of which a process may
#: have 1,024 on most systems; gunicorn's worker dies where it can accept no more.
CONNECTIONS = 500

_MEMORY_FOLDER = Path("/dev/shm")


class _Logger(Logger):  # type: ignore[misc]
    """gunicorn's messages in our own format; requests are logged by the application."""

    def setup(self, cfg: Any) -> None:
        self.error_log.setLevel(logging.WARNING)
        self.error_log.propagate = True


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, told everything here: it reads no file and no command line.

    listener_fd: the descriptor of a socket that listens already; the settings' host and port when left out.
    """

    def __init__(self, settings: Settings, listener_fd: int | None = None) -> None:
        self.settings = settings
        own = f"{settings.api_host}:{settings.api_port}"
        self.bind = own if listener_fd is None else f"fd://{listener_fd}"
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": self.bind,
            "worker_class": "gthread",
            "workers": WORKERS,
            "threads": THREADS,
            "worker_connections": CONNECTIONS,
            "timeout": 60,
            "graceful_timeout": 30,
            "max_requests": 2000,  # a leak somewhere must not grow for ever
            "max_requests_jitter": 200,
            "limit_request_fields": wire.MAX_HEADERS,
            "limit_request_field_size": wire.MAX_HEADER_BYTES,
            "limit_request_line": 8190,  # a file's name of 255 characters is up to 3,060 in an address
            "forwarded_allow_ips": "",  # whose X-Forwarded-… headers hold is the application's decision
            "control_socket_disable": True,  # nobody here uses it, and it would lie in the home folder
            "preload_app": False,  # a connection must not cross a fork
            # The sign of life is a file's time; on a busy disk, writing it could take longer than the timeout.
            "worker_tmp_dir": str(_MEMORY_FOLDER) if _MEMORY_FOLDER.is_dir() else None,
            "logger_class": _Logger,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application, in each worker process."""
        return closing(create_app(self.settings))


def closing(app: WSGIApplication) -> WSGIApplication:
    """The application, whose `Connection: close` gunicorn follows: by itself it ignores the header."""

    def answer(environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            if ("Connection", "close") in headers:
                start_response.__self__.force_close()
            return start_response(status, headers, *error)

        return app(environ, start)

    return answer


@explained()
def main() -> None:
    """Serve until the process is asked to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listener-fd", type=int, help="a socket that whoever started us listens on for us")
    listener_fd = parser.parse_args().listener_fd
    settings = load_settings()
    configure_logging("api", settings.log_level)
    settings.require("database_url")
    open_blobs(settings)
    check_settings(settings)
    gc(settings.scratch_folder)  # uploads that were on their way when a process was killed
    logger.info("answering on http://%s:%d", settings.api_host, settings.api_port, extra={"event": "server_started"})
    Server(settings, listener_fd).run()


if __name__ == "__main__":
    main()
