"""A web server that makes a request's calls and nothing else, to show what Flask and gunicorn alone add to them.

    WEB_PORT=5001 python -m benchmarks.speed.calls_only

It has no validation, ranking, circuit breakers, metrics or log; its response has the usual length.
benchmarks/speed/latency.py times it beside the real server.
"""

import flask

from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from online.main.s1_server import Server

RESPONSE = b" " * 9_700  # bytes, as many as 50 items with titles and genres take


class CallsOnly(Server):
    """The real server's gunicorn with another application."""

    def load_config(self) -> None:
        """The real server's configuration, without what belongs to its metrics."""
        super().load_config()
        self.cfg.set("child_exit", lambda _server, _worker: None)

    def load(self) -> flask.Flask:
        """Makes one application for each worker."""
        from benchmarks.speed.latency import Calls  # as the real server does: clients do not survive a fork

        calls, app = Calls(self._settings), flask.Flask(__name__)

        @app.get("/recommend")
        def recommend() -> flask.Response:
            calls.make(int(flask.request.args["userid"]))
            return flask.Response(RESPONSE)

        return app


def main() -> None:
    """Serves until it is stopped."""
    CallsOnly(Settings()).run()


if __name__ == "__main__":
    run_stage(main)
