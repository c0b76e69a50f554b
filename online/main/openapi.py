"""/openapi.json, made of the models of contract.py that validate every request and response."""

from typing import Any

from openapi_pydantic import OpenAPI
from openapi_pydantic.util import PydanticSchema, construct_open_api_with_schema_class
from pydantic import BaseModel

from data_exchange_center.dataset import MOVIELENS_SCALE, RatingScale
from data_exchange_center.vocabularies import GENRES
from online.main import contract
from online.main.dataset_models import Models, models_for
from online.main.operations_summary import OperationsResponse

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
    many = {"style": "form", "explode": True}  # repeated, since names and text ids may hold commas
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": rule,
            **(many if rule.get("type") == "array" else {}),
        }
        for name, rule in schema["properties"].items()
    ]


BAD = (400, contract.ErrorResponse, "A parameter is missing, unknown or out of its range.")
TOO_LONG = {"414": {"description": "The query is longer than 8,190 bytes."}}
BAD_BODY = (
    BAD,
    (413, contract.ErrorResponse, "The body is too large."),
    (415, contract.ErrorResponse, "The body is no JSON by its Content-Type."),
)
TOKEN = {"type": "http", "scheme": "bearer", "description": "the token of EVENTS_TOKEN"}


def openapi_document(
    text_ids: frozenset[str] = frozenset(),
    scale: RatingScale = MOVIELENS_SCALE,
    genres: tuple[str, ...] = GENRES,
    asks_for_token: bool = False,
) -> Described:
    """The document, version 3.1; never kept, since the latest time of an event moves on.

    Args:
        text_ids, scale, genres: of the data set; see dataset_models.py.
        asks_for_token: whether EVENTS_TOKEN is set.
    """
    paths = _paths(models_for(text_ids, scale, genres))
    content: Described = {"openapi": "3.1.1", "info": {"title": "recsys_pipeline", "version": "1"}, "paths": paths}
    if asks_for_token:
        for operation in (paths["/events"]["post"], paths["/operations.json"]["get"]):
            operation["security"] = [{"token": []}]
        content["components"] = {"securitySchemes": {"token": TOKEN}}
    document = construct_open_api_with_schema_class(OpenAPI.model_validate(content))
    filled: Described = document.model_dump(mode="json", by_alias=True, exclude_none=True)
    return filled


def _similar(models: Models) -> Described:
    unknown = (404, contract.ErrorResponse, "The item is not in the catalogue.")
    return {
        "get": {
            "summary": "The items most like an item",
            "parameters": _query(models.similar_request),
            "responses": {**_responses(models.similar_response, BAD, unknown), **TOO_LONG},
        }
    }


def _paths(models: Models) -> dict[str, Described]:
    many = {"type": "array", "items": _schema(models.event), "minItems": 1, "maxItems": contract.MOST_EVENTS}
    top = "The top items for a user, or for someone without an account by the items of their session"
    no_redis = (503, contract.ErrorResponse, "Redis does not respond.")
    not_recorded = (
        503,
        contract.ErrorResponse,
        "Redis does not respond. None of the events was recorded, or all were: send them again, an event counts once.",
    )
    return {
        "/recommend": {
            "get": {
                "summary": top,
                "parameters": _query(models.recommend_request),
                "responses": {**_responses(models.recommend_response, BAD), **TOO_LONG},
            },
            "post": {
                "summary": top,
                "requestBody": {
                    "required": True,
                    **_json({"anyOf": [_schema(models.recommend_request), _schema(models.session_request)]}),
                },
                "responses": _responses(
                    models.recommend_response,
                    *BAD_BODY,
                    (404, contract.ErrorResponse, "An item of the session is not in the catalogue."),
                ),
            },
        },
        "/similar": _similar(models),
        "/events": {
            "post": {
                "summary": "Ratings that have just been given, one or a list: all are recorded, or none",
                "requestBody": {"required": True, **_json({"anyOf": [_schema(models.event), many]})},
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
                "parameters": _query(models.history_request),
                "responses": {**_responses(models.history_response, BAD, no_redis), **TOO_LONG},
            }
        },
        **_about_the_server(models),
    }


def _about_the_server(models: Models) -> dict[str, Described]:
    """What takes no parameters."""
    return {
        "/users": {"get": {"summary": "Some known users", "responses": _responses(models.users_response)}},
        "/health": {"get": {"summary": "Whether the process lives", "responses": _responses(contract.HealthResponse)}},
        "/operations.json": {
            "get": {
                "summary": "How the server fares: counts of all workers since its start, versions, drift, runs",
                "responses": _responses(
                    OperationsResponse, (401, contract.ErrorResponse, "EVENTS_TOKEN is set, and the header lacks it.")
                ),
            }
        },
        "/ready": {
            "get": {
                "summary": "Whether every service can be used",
                "responses": _responses(
                    contract.ReadyResponse, (503, contract.ReadyResponse, "Some cannot: `missing` names them.")
                ),
            }
        },
    }
