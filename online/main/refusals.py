"""Errors as responses: JSON that names the field and the rule, whatever went wrong."""

from typing import Any

import flask
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from online.callers.types import ServiceUnavailable, StoreFault
from online.main.contract import ErrorResponse, Fault
from online.main.responses import as_json

MOST_BODY_BYTES = 16 * 1024


def refusal(status: int, field: str, rule: str, got: Any = None) -> flask.Response:
    """A response that names the field and the rule that it breaks."""
    return as_json(ErrorResponse(error=Fault(field=field, rule=rule, got=repr(got)[:200])), status)


def handle_errors(app: flask.Flask) -> None:
    """Makes a refusal of each error that an endpoint may raise."""
    app.register_error_handler(ValidationError, _invalid)
    app.register_error_handler(ServiceUnavailable, _unavailable)
    app.register_error_handler(HTTPException, _http_error)


def _invalid(error: ValidationError) -> flask.Response:
    fault = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(map(str, fault["loc"])) or "body"
    return refusal(400, field, fault["msg"], fault.get("input"))


def _unavailable(error: ServiceUnavailable) -> flask.Response:
    rule = str(error) if isinstance(error, StoreFault) else "cannot be used now; try again in a second"
    response = refusal(503, error.service, rule)
    response.headers["Retry-After"] = "1"
    return response


def _http_error(error: HTTPException) -> flask.Response:
    if error.response is not None:
        return error.response  # type: ignore[return-value]
    field = "body" if error.code == 413 else flask.request.path
    rule = f"at most {MOST_BODY_BYTES} bytes" if error.code == 413 else str(error.description)
    response = refusal(error.code or 500, field, rule, flask.request.method)
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response
