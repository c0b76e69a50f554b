"""Reads a request: what does not fit the contract is refused with the field and the rule."""

from typing import TypeVar, get_origin

import flask
from pydantic import BaseModel
from pydantic_core import from_json

from online.main import contract
from online.main.dataset_models import Models
from online.main.refusals import refusal

Model = TypeVar("Model", bound=BaseModel)


def parse_query(model: type[Model]) -> Model:
    """The request's query; a parameter that is a list is repeated, once for each of its values.

    Raises:
        ValidationError: a parameter is missing, unknown or out of its range.
        HTTPException: a parameter that is no list stands twice.
    """
    values = flask.request.args
    lists = {name for name in values if _is_list(model, name)}
    twice = [name for name in values if name not in lists and len(values.getlist(name)) > 1]
    if twice:
        flask.abort(refusal(400, twice[0], "may stand once", values.getlist(twice[0])))
    return model.model_validate({**values.to_dict(), **{name: values.getlist(name) for name in lists}})


def _is_list(model: type[BaseModel], name: str) -> bool:
    field = model.model_fields.get(name)
    return field is not None and get_origin(field.annotation) is list


def parse_body(model: type[Model]) -> Model:
    """The request's body.

    Raises:
        ValidationError: it is not what the model declares.
        HTTPException: it is too large, or of another type than JSON.
    """
    return model.model_validate_json(_json_body(), strict=True)


def body_has(key: str) -> bool:
    """Whether the request's body is an object with that key; what else is wrong with it is not looked at."""
    content = _json_body()
    if f'"{key}"'.encode() not in content:
        return False
    try:
        body = from_json(content)
    except ValueError:
        return False
    return isinstance(body, dict) and key in body


def parse_events(models: Models) -> list[contract.Event]:
    """The request's body: one event, or a list of them.

    Raises:
        ValidationError: it is neither.
        HTTPException: there are no events or too many, or it is too large, or of another type than JSON.
    """
    content = _json_body()
    if not content.lstrip().startswith(b"["):
        return [models.event.model_validate_json(content, strict=True)]
    events = models.events.validate_json(content, strict=True)
    if not 1 <= len(events) <= contract.MOST_EVENTS:
        flask.abort(refusal(400, "body", f"a list holds 1 to {contract.MOST_EVENTS} events", len(events)))
    return events


def _json_body() -> bytes:
    if flask.request.mimetype != "application/json":
        flask.abort(refusal(415, "Content-Type", "must be application/json", flask.request.content_type))
    return flask.request.get_data()
