"""/openapi.json, from the models of contract.py that validate every request and answer."""

from typing import Any

from openapi_pydantic import OpenAPI
from openapi_pydantic.util import PydanticSchema, construct_open_api_with_schema_class
from pydantic import BaseModel

from online.main import contract as c

Described = dict[str, Any]


def _schema(model: type[BaseModel]) -> PydanticSchema[BaseModel]:
    return PydanticSchema(schema_class=model)  # type: ignore[call-arg]


def _json(schema: Any) -> Described:
    return {"content": {"application/json": {"schema": schema}}}


def _answers(model: type[BaseModel], *others: tuple[int, type[BaseModel], str]) -> Described:
    listed = ((200, model, model.__doc__), *others)
    return {str(status): {"description": about, **_json(_schema(answer))} for status, answer, about in listed}


def _query(model: type[BaseModel]) -> list[Described]:
    """A parameter for each field of the model, with the field's own schema."""
    schema = model.model_json_schema()
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": rule}
        for name, rule in schema["properties"].items()
    ]


BAD = (400, c.ErrorAnswer, "A parameter is missing, unknown or out of its range.")
TOO_LONG = {"414": {"description": "The query is longer than 8,190 bytes."}}
BAD_BODY = (
    BAD,
    (413, c.ErrorAnswer, "The body is too large."),
    (415, c.ErrorAnswer, "The body is no JSON by its Content-Type."),
)


def openapi_document() -> dict[str, Any]:
    """The document, version 3.1."""
    many = {"type": "array", "items": _schema(c.Event), "minItems": 1, "maxItems": c.MOST_EVENTS}
    top = "The top items for a user"
    no_redis = (503, c.ErrorAnswer, "Redis does not answer; nothing was changed.")
    paths: dict[str, Described] = {
        "/recommend": {
            "get": {
                "summary": top,
                "parameters": _query(c.RecommendRequest),
                "responses": {**_answers(c.RecommendAnswer, BAD), **TOO_LONG},
            },
            "post": {
                "summary": top,
                "requestBody": {"required": True, **_json(_schema(c.RecommendRequest))},
                "responses": _answers(c.RecommendAnswer, *BAD_BODY),
            },
        },
        "/events": {
            "post": {
                "summary": "Ratings that have just been given, one or a list",
                "requestBody": {"required": True, **_json({"anyOf": [_schema(c.Event), many]})},
                "responses": _answers(
                    c.EventsAnswer, *BAD_BODY, (404, c.ErrorAnswer, "The item is not in the catalogue."), no_redis
                ),
            }
        },
        "/history": {
            "get": {
                "summary": "The user's latest impressions",
                "parameters": _query(c.HistoryRequest),
                "responses": {**_answers(c.HistoryAnswer, BAD, no_redis), **TOO_LONG},
            }
        },
        "/users": {"get": {"summary": "Some known users", "responses": _answers(c.UsersAnswer)}},
        "/health": {"get": {"summary": "Whether the process lives", "responses": _answers(c.Health)}},
        "/ready": {
            "get": {
                "summary": "Whether every service can be used",
                "responses": _answers(c.Ready, (503, c.Ready, "Some cannot: `missing` names them.")),
            }
        },
    }
    info = {"title": "recsys_pipeline", "version": "1"}
    document = OpenAPI.model_validate({"openapi": "3.1.1", "info": info, "paths": paths})
    filled: Described = construct_open_api_with_schema_class(document).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    return filled
