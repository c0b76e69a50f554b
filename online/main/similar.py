"""/similar: items like an item."""

import flask

from data_exchange_center.external_ids import internal_id
from online.main import metrics
from online.main.current import current_engine
from online.main.dataset_models import models_of
from online.main.parsing import parse_query
from online.main.refusals import refusal
from online.main.request_log import note_fields
from online.main.responses import as_json, server_timing, similar_response

blueprint = flask.Blueprint("similar", __name__)


@blueprint.get("/similar")
def get_similar() -> flask.Response:
    """The items most like an item, without those that a user has seen."""
    engine = current_engine()
    snapshot = engine.snapshot
    request = parse_query(models_of(snapshot.data).similar_request)
    itemid = internal_id(request.itemid)
    if itemid not in snapshot.data.items:
        return refusal(404, "itemid", "must be an item of the catalogue", request.itemid)
    userid = None if request.userid is None else internal_id(request.userid)
    similar = engine.similar_items.similar(snapshot, itemid, request.size, userid)
    for reason in [*([similar.fallback] if similar.fallback else []), *similar.degraded]:
        metrics.FALLBACKS.labels(reason).inc()
    note_fields(itemid=request.itemid, items=len(similar.items), degraded=similar.degraded)
    response = as_json(similar_response(request.itemid, similar, snapshot.data))
    response.headers["Server-Timing"] = server_timing({step.service: step.seconds for step in similar.steps})
    return response
