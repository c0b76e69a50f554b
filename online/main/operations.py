"""/health, /ready, /metrics, /operations.json and /openapi.json: for whoever runs the server or writes a client."""

import flask
from prometheus_client import CONTENT_TYPE_LATEST

from online.main import contract, metrics
from online.main.access import asks_for_token
from online.main.current import current_engine, current_settings
from online.main.openapi import openapi_document
from online.main.operations_summary import operations_response
from online.main.responses import as_json

blueprint = flask.Blueprint("operations", __name__)


@blueprint.get("/health")
def get_health() -> flask.Response:
    """Whether the process lives."""
    return as_json(contract.HealthResponse(status="live", dataset=current_engine().snapshot.data.dataset))


@blueprint.get("/ready")
def get_ready() -> flask.Response:
    """Whether every service can be used."""
    engine = current_engine()
    snapshot = engine.snapshot
    missing = engine.readiness.missing(snapshot.expected)
    response = contract.ReadyResponse(
        ready=not missing,
        missing=missing,
        breakers=engine.breakers.states(),
        **({"ranking_version": snapshot.ranking_version} if snapshot.ranking_version else {}),
    )
    if engine.rules.fault:
        response.rules = engine.rules.fault  # the server is ready all the same: the last rules are in force
    return as_json(response, 503 if missing else 200)


@blueprint.get("/metrics")
def get_metrics() -> flask.Response:
    """The metrics of all workers together."""
    exposition = metrics.exposition(current_engine().breakers.states())
    return flask.Response(exposition, content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/operations.json")
def get_operations() -> flask.Response:
    """What the page's second view shows."""
    engine = current_engine()
    registry = metrics.all_workers(engine.breakers.states())
    response = as_json(operations_response(registry, engine.snapshot.data, current_settings(), engine.experiments))
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.get("/openapi.json")
def get_openapi() -> flask.Response:
    """The contract."""
    data = current_engine().snapshot.data
    return flask.jsonify(openapi_document(data.text_ids, data.scale, data.features.categories.genres, asks_for_token()))
