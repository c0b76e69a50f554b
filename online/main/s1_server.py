"""The web server: gunicorn with threads, or Flask's own with --debug.

    python -m online.main.s1_server            (or: make serve, in the background)

Answers GET /recommend?userid=1 and POST /recommend {"userid": 1, "size": 50}; GET /health.
"""

import argparse
from typing import Any

import flask
from gunicorn.app.base import BaseApplication

from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from online.main.app import create_app
from online.recommender import ServingData

GRACEFUL_SECONDS = 10  # in which requests under way may finish


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with the project's settings. Each worker makes its own application: clients do not survive a fork."""

    def __init__(self, settings: Settings) -> None:
        """Takes host, port, workers and threads from the settings."""
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Hands the settings to gunicorn."""
        options: dict[str, Any] = {
            "bind": f"{self._settings.web_host}:{self._settings.web_port}",
            "workers": self._settings.web_workers,
            "threads": self._settings.web_threads,
            "worker_class": "gthread",
            "graceful_timeout": GRACEFUL_SECONDS,
            "keepalive": 30,
            "control_socket_disable": True,
            "proc_name": "recsys_pipeline",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> flask.Flask:
        """One application a worker."""
        return create_app(self._settings)


def main() -> None:
    """Checks what the server needs, then serves until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--debug", action="store_true", help="Flask's development server instead of gunicorn")
    arguments, settings = parser.parse_args(), Settings()
    if arguments.debug:
        create_app(settings).run(settings.web_host, settings.web_port, debug=True)
        return
    ServingData.load()  # a missing artefact is a sentence here, and a crash loop of workers later
    Server(settings).run()


if __name__ == "__main__":
    run_stage(main)
