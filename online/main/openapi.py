"""/openapi.json, made of the models of contract.py that validate every request and response."""

from typing import Any

from openapi_pydantic import OpenAPI
from openapi_pydantic.util import PydanticSchema, construct_open_api_with_schema_class
from pydantic import BaseModel

from online.main import contract

Described = dict[str, Any]


def _schema(model: type[BaseModel]) -> PydanticSchema[BaseModel]:
    return PydanticSchema(schema_class=model)  # type: ignore[call-arg]


def _json(schema: Any) -> Described:
    return {"content": {"application/json": {"schema": schema}}}


def _responses(model: type[BaseModel], *others: tuple[int, type[BaseModel], str]) -> Described:
    listed = ((200, model, model.__doc__), *others)
    return {str(status): {"description": about, **_json(_schema(content))} for status, content, about in listed}


def _query(model: type[BaseModel]) -> list[Described]:
    """A parameter for each field of the model, with the field's own schema."""
    schema = model.model_json_schema()
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": rule}
        for name, rule in schema["properties"].items()
    ]


BAD = (400, contract.ErrorResponse, "A parameter is missing, unknown or out of its range.")
TOO_LONG = {"414": {"description": "The query is longer than 8,190 bytes."}}
BAD_BODY = (
    BAD,
    (413, contract.ErrorResponse, "The body is too large."),
    (415, contract.ErrorResponse, "The body is no JSON by its Content-Type."),
)


def openapi_document() -> dict[str, Any]:
    """The document, version 3.1."""
    many = {"type": "array", "items": _schema(contract.Event), "minItems": 1, "maxItems": contract.MOST_EVENTS}
    top = "The top items for a user"
    no_redis = (503, contract.ErrorResponse, "Redis does not respond.")
    not_recorded = (
        503,
        contract.ErrorResponse,
        "Redis does not respond. None of the events was recorded, or all were: send them again, an event counts once.",
    )
    paths: dict[str, Described] = {
        "/recommend": {
            "get": {
                "summary": top,
                "parameters": _query(contract.RecommendRequest),
                "responses": {**_responses(contract.RecommendResponse, BAD), **TOO_LONG},
            },
            "post": {
                "summary": top,
                "requestBody": {"required": True, **_json(_schema(contract.RecommendRequest))},
                "responses": _responses(contract.RecommendResponse, *BAD_BODY),
            },
        },
        "/events": {
            "post": {
                "summary": "Ratings that have just been given, one or a list: all are recorded, or none",
                "requestBody": {"required": True, **_json({"anyOf": [_schema(contract.Event), many]})},
                "responses": _responses(
                    contract.EventsResponse,
                    *BAD_BODY,
                    (401, contract.ErrorResponse, "EVENTS_TOKEN is set, and the header lacks it."),
                    (404, contract.ErrorResponse, "The item is not in the catalogue."),
                    not_recorded,
                ),
            }
        },
        "/history": {
            "get": {
                "summary": "The user's latest impressions",
                "parameters": _query(contract.HistoryRequest),
                "responses": {**_responses(contract.HistoryResponse, BAD, no_redis), **TOO_LONG},
            }
        },
        "/users": {"get": {"summary": "Some known users", "responses": _responses(contract.UsersResponse)}},
        "/health": {"get": {"summary": "Whether the process lives", "responses": _responses(contract.HealthResponse)}},
        "/ready": {
            "get": {
                "summary": "Whether every service can be used",
                "responses": _responses(
                    contract.ReadyResponse, (503, contract.ReadyResponse, "Some cannot: `missing` names them.")
                ),
            }
        },
    }
    info = {"title": "recsys_pipeline", "version": "1"}
    document = OpenAPI.model_validate({"openapi": "3.1.1", "info": info, "paths": paths})
    filled: Described = construct_open_api_with_schema_class(document).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    return filled
