"""What is noted of every request: its id, its time, a line of the log and the metrics."""

import logging
import re
import secrets
import time

import flask

from online.main import contract, metrics
from online.recommendation import Recommendation
from online.shown import Log, Shown

REQUEST_ID = re.compile(contract.REQUEST_ID)

IMPRESSION_LOG = "impression_log"  # its name among the application's extensions

logger = logging.getLogger("recsys_pipeline.requests")


def log_requests(app: flask.Flask, impression_log: Log | None) -> None:
    """Notes every request of the application, and logs the lists that are shown where there is a log for them."""
    app.before_request(_begin)
    app.after_request(_finish)
    if impression_log:
        app.extensions[IMPRESSION_LOG] = impression_log


def close_log(app: flask.Flask) -> None:
    """Writes what waits in the log of the lists that were shown, within a few seconds."""
    log: Log | None = app.extensions.get(IMPRESSION_LOG)
    if log:
        log.close()


def note_recommendation(recommendation: Recommendation, user: int | None, **fields: object) -> None:
    """Adds a recommendation to what is noted of the present request.

    Args:
        recommendation: what the response is made of.
        user: for whom, as known inside; None for a session, whose list is not logged, since nothing of it is kept.
        fields: of the request's line of the log.
    """
    flask.g.recommendation, flask.g.user, flask.g.log_fields = recommendation, user, fields


def note_fields(**fields: object) -> None:
    """Adds these fields to what is noted of the present request in its line of the log."""
    flask.g.log_fields = {**flask.g.get("log_fields", {}), **fields}


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
    user: int | None = flask.g.get("user")
    request_id = flask.g.request_id
    log: Log | None = flask.current_app.extensions.get(IMPRESSION_LOG)

    response.direct_passthrough = False  # files: the response of one that is passed through is never closed

    @response.call_on_close  # once the response is sent: nobody waits for what is noted of it
    def note() -> None:
        metrics.REQUESTS.labels(path, response.status_code).observe(seconds)
        if recommendation:
            metrics.count(recommendation)
            if log and user is not None:
                log.put(Shown(recommendation, user, request_id, time.time_ns() // 1_000_000))
        logger.info("request", extra=fields)

    return response
