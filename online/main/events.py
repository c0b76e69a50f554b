"""/events and /history: what users rate, and what they rated lately."""

from collections import defaultdict

import flask

from data_exchange_center.external_ids import internal_id
from data_exchange_center.log_entries import Origin
from online.callers.types import Impression
from online.main import contract, metrics
from online.main.current import current_engine
from online.main.dataset_models import models_of
from online.main.parsing import parse_events, parse_query
from online.main.refusals import refusal
from online.main.responses import as_json, history_response

blueprint = flask.Blueprint("events", __name__)


@blueprint.post("/events")
def post_events() -> flask.Response:
    """Takes one event or a list of them: all, or none."""
    engine = current_engine()
    data = engine.snapshot.data
    received = parse_events(models_of(data))
    by_user: dict[int, list[Impression]] = defaultdict(list)
    for event in received:
        itemid = internal_id(event.itemid)
        if itemid not in data.items:
            return refusal(404, "itemid", "must be an item of the catalogue", event.itemid)
        origin = Origin(userid=event.userid, itemid=event.itemid, request_id=event.request_id)
        by_user[internal_id(event.userid)].append(Impression(itemid, event.rating, event.ts, origin))
    recorded = engine.user_events.record(by_user, data)
    duplicates = len(received) - recorded.accepted
    metrics.EVENTS.labels("accepted").inc(recorded.accepted)
    metrics.EVENTS.labels("duplicate").inc(duplicates)
    response = contract.EventsResponse(accepted=recorded.accepted, duplicates=duplicates)
    if recorded.behind:
        response.degraded = list(recorded.behind)
    return as_json(response)


@blueprint.get("/history")
def get_history() -> flask.Response:
    """The user's latest impressions."""
    engine = current_engine()
    data = engine.snapshot.data
    userid = parse_query(models_of(data).history_request).userid
    return as_json(history_response(userid, engine.user_events.history(internal_id(userid)), data))
