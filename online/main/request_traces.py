"""The root span of each request, where traces are asked for; see online/tracing.py."""

from typing import TYPE_CHECKING

import flask

if TYPE_CHECKING:
    from online.opentelemetry_tracer import OpenTelemetryTracer

# Asked for every few seconds by machines, or files: they would fill a collector and tell nothing.
NOT_TRACED = frozenset({"/health", "/ready", "/metrics", "/operations.json", "/static/<path:filename>"})


def trace_requests(app: flask.Flask, tracer: "OpenTelemetryTracer") -> None:
    """Notes a span for every request of the application but for those of NOT_TRACED; its calls become its children.

    Registered before the request log: the span is there when the log begins, and gets what the log was given.
    """

    def begin() -> None:
        rule = flask.request.url_rule
        path = rule.rule if rule else "other"
        if path in NOT_TRACED:
            return
        span = tracer.begin_request(f"{flask.request.method} {path}", dict(flask.request.headers))
        span.note({"http.request.method": flask.request.method, "http.route": path})
        block = span.within()
        block.__enter__()  # left by `end`, in the same thread
        flask.g.trace_span, flask.g.trace_block, flask.g.trace_id = span, block, span.trace_id

    def note(response: flask.Response) -> flask.Response:
        if "trace_span" in flask.g:
            notes = {**flask.g.get("log_fields", {}), "request_id": flask.g.request_id}
            notes.pop("userid", None)  # traces may go to somebody else's collector; the request's id finds the log
            attributes = {
                f"recsys.{name}": ", ".join(value) if isinstance(value, list) else value
                for name, value in notes.items()
            }
            flask.g.trace_span.note({"http.response.status_code": response.status_code, **attributes})
            if response.status_code >= 500:
                flask.g.trace_span.failed()
        return response

    def end(error: BaseException | None) -> None:
        block = flask.g.pop("trace_block", None)
        if block is not None:
            block.__exit__(None, None, None)

    app.before_request(begin)
    app.after_request(note)
    app.teardown_request(end)
