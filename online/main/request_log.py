"""What is noted of every request: its id, its time, a line of the log and the metrics."""

import logging
import re
import secrets
import time

import flask

from online.main import metrics
from online.recommendation import Recommendation

REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)

logger = logging.getLogger("recsys_pipeline.requests")


def log_requests(app: flask.Flask) -> None:
    """Notes every request of the application."""
    app.before_request(_begin)
    app.after_request(_finish)


def note_recommendation(recommendation: Recommendation, **fields: object) -> None:
    """Adds a recommendation to what is noted of the present request, and these fields to its line of the log."""
    flask.g.recommendation, flask.g.log_fields = recommendation, fields


def _begin() -> None:
    given = flask.request.headers.get("X-Request-ID", "")
    flask.g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    flask.g.began = time.perf_counter()


def _finish(response: flask.Response) -> flask.Response:
    seconds = time.perf_counter() - flask.g.began
    # Only paths that exist become labels: whoever scans for others must not fill the memory.
    path = flask.request.url_rule.rule if flask.request.url_rule else "other"
    response.headers["X-Request-ID"] = flask.g.request_id
    fields = {
        "request_id": flask.g.request_id,
        "method": flask.request.method,
        "path": path,
        "status": response.status_code,
        "milliseconds": round(seconds * 1000, 2),
        **({"trace_id": flask.g.trace_id} if "trace_id" in flask.g else {}),
        **flask.g.get("log_fields", {}),
    }
    recommendation: Recommendation | None = flask.g.get("recommendation")

    response.direct_passthrough = False  # files: the response of one that is passed through is never closed

    @response.call_on_close  # once the response is sent: nobody waits for what is noted of it
    def note() -> None:
        metrics.REQUESTS.labels(path, response.status_code).observe(seconds)
        if recommendation:
            metrics.count(recommendation)
        logger.info("request", extra=fields)

    return response
