"""A web server that makes a request's calls and nothing else: what Flask and gunicorn alone add to them.

    WEB_PORT=5001 python -m benchmarks.calls_only

No validation, no ranking, no breakers, no metrics, no log; an answer of the usual length. benchmarks/latency.py asks it
beside the real one.
"""

import flask

from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from online.main.s1_server import Server

ANSWER = b" " * 9_700  # bytes, as many as 50 items with titles and genres take


class CallsOnly(Server):
    """The real server's gunicorn with another application."""

    def load_config(self) -> None:
        """The real server's, less what belongs to its metrics."""
        super().load_config()
        self.cfg.set("child_exit", lambda _server, _worker: None)

    def load(self) -> flask.Flask:
        """One application a worker."""
        from benchmarks.latency import Calls

        calls, app = Calls(self._settings), flask.Flask(__name__)

        @app.get("/recommend")
        def recommend() -> flask.Response:
            calls.make(int(flask.request.args["userid"]))
            return flask.Response(ANSWER)

        return app


def main() -> None:
    """Serves until it is stopped."""
    CallsOnly(Settings()).run()


if __name__ == "__main__":
    run_stage(main)
