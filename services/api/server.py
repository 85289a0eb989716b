"""The API's process: gunicorn with threads, `python -m services.api.server`."""

from __future__ import annotations

from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from services.api.app import create_app
from shared.logs import configure_logging
from shared.settings import Settings, load_settings

#: Anchored in docs/operations.md: waiting searches and slow uploads hold a thread each, so threads and not processes.
WORKERS, THREADS = 2, 16


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, told everything here: it reads no file and no command line."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def _options(self) -> dict[str, Any]:
        return {
            "bind": f"{self.settings.api_host}:{self.settings.api_port}",
            "worker_class": "gthread",
            "workers": WORKERS,
            "threads": THREADS,
            "timeout": 60,
            "graceful_timeout": 10,
            "max_requests": 2000,
            "max_requests_jitter": 200,
            "preload_app": False,  # a connection must not cross a fork
            "post_worker_init": self._log_in_our_format,
            "loglevel": self.settings.log_level.lower(),
        }

    def _log_in_our_format(self, _worker: object) -> None:
        configure_logging("api", self.settings.log_level)

    def load(self) -> Any:
        """The application, in each worker process."""
        return create_app(self.settings)


def main() -> None:
    """Serve until the process is asked to stop."""
    settings = load_settings()
    settings.require("database_url", "blobs_folder")
    configure_logging("api", settings.log_level)
    Server(settings).run()


if __name__ == "__main__":
    main()
