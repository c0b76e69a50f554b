"""The web server: gunicorn with threads, or Flask's own with --debug.

    python -m online.main.s1_server            (or: make serve, in the background)

GET /recommend?userid=1, POST /recommend, POST /events, GET /history, the page at /, /health, /ready, /metrics, and
/openapi.json that describes them. Logs are JSON, a line a request.
"""

import argparse
import gc
import logging
import os
import resource
import shutil
from typing import Any

import flask
from gunicorn.app.base import BaseApplication
from pythonjsonlogger.json import JsonFormatter

from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from online.experiments import experiments_of
from online.rules_file import rules_file
from online.serving_data import ServingData

MOST_CONNECTIONS = 2000  # of a worker; more wait until one ends
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
            "worker_class": "online.main.whole_requests.WholeRequestsWorker",
            "worker_connections": MOST_CONNECTIONS,
            "graceful_timeout": GRACEFUL_SECONDS,
            "keepalive": 30,
            "limit_request_line": 8190,  # bytes; a longer one is a 414 of gunicorn's own
            "control_socket_disable": True,
            "proc_name": "recsys_pipeline",
            "worker_exit": end_worker,
            "child_exit": forget_worker,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> flask.Flask:
        """One application a worker."""
        from online.main.app import create_app  # not at the top: see online/main/metrics.py
        from online.main.current import ENGINE

        app = create_app(self._settings)
        app.extensions[ENGINE].warm_up()  # before the worker takes any connection
        gc.collect()
        gc.freeze()  # what lives as long as the worker is not searched through in the middle of requests
        return app


def allow_connections() -> None:
    """Lets a process have as many open files as it needs for its connections, where the system's own limit is lower."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MOST_CONNECTIONS
    if now != resource.RLIM_INFINITY and now < needed:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (needed if most == resource.RLIM_INFINITY else min(needed, most), most)
        )


def import_before_fork() -> None:
    """Imports what every worker needs, so that they share the memory of it; no client connects before the fork."""
    from online.main import app  # noqa: F401  (not at the top: see online/main/metrics.py)

    gc.collect()
    gc.freeze()  # the collector would write into the shared pages, and each worker would get its own


def end_worker(_: Any, worker: Any) -> None:
    """In a worker that ends: writes the lists that wait for it. One that is killed loses them."""
    from online.main.request_log import close_log  # not at the top: see online/main/metrics.py

    if worker.app.callable is not None:
        close_log(worker.app.callable)


def forget_worker(_: Any, worker: Any) -> None:
    """Takes a dead worker out of the metrics that only live ones have."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


def log_as_json() -> None:
    """Everything that is logged, as lines of JSON on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter("{asctime}{levelname}{name}{message}", style="{"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def main() -> None:
    """Checks what the server needs, then serves until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debug", action="store_true", help="Flask's development server instead of gunicorn")
    arguments, settings = parser.parse_args(), Settings()
    # A missing artefact, a wrong rule or experiment is a sentence here, and a crash loop of workers later.
    rules_file(settings).start(ServingData.load())
    experiments_of(settings)
    if arguments.debug:
        from online.main.app import create_app

        create_app(settings).run(settings.web_host, settings.web_port, debug=True)
        return
    log_as_json()
    counts = (
        settings.folder(settings.run_dir) / "metrics"
    )  # the workers' files; a new server starts without those of the last
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)
    allow_connections()
    import_before_fork()
    Server(settings).run()


if __name__ == "__main__":
    run_stage(main)
