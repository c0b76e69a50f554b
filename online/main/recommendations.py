"""/recommend: the top list for a user, or for someone of whom a session is known."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import flask

from data_exchange_center.external_ids import ExternalId, internal_id
from online.arms import Arms
from online.callers.types import Impression, ItemFilter
from online.engine import Engine
from online.experiments import toss
from online.list_options import ListOptions
from online.main.current import current_engine
from online.main.dataset_models import models_of
from online.main.list_contract import ListRequest, RecommendRequest, SessionItem, SessionRequest
from online.main.parsing import body_has, parse_body, parse_query
from online.main.refusals import refusal
from online.main.request_log import note_recommendation
from online.main.responses import as_json, recommend_response, server_timing
from online.paging import CursorError, shown_by, tag_of
from online.recommendation import Recommendation
from online.recommender import Way
from online.serving_data import ServingData
from online.snapshot import Snapshot

blueprint = flask.Blueprint("recommendations", __name__)


@blueprint.get("/recommend")
def get_recommend() -> flask.Response:
    """The top list, the parameters in the query."""
    engine, snapshot = _present()
    request = parse_query(models_of(snapshot.data).recommend_request)
    return _for_user(engine, snapshot, request)


@blueprint.post("/recommend")
def post_recommend() -> flask.Response:
    """The top list, the parameters in the body; a session stands in a user's place."""
    engine, snapshot = _present()
    models = models_of(snapshot.data)
    if body_has("session"):
        if body_has("userid"):
            rule = "may not stand beside userid: a user's own items go to /events, and count from then on"
            return refusal(400, "session", rule)
        return _for_session(engine, snapshot, parse_body(models.session_request))
    return _for_user(engine, snapshot, parse_body(models.recommend_request))


def _present() -> tuple[Engine, Snapshot]:
    """The engine and one snapshot, the same for the reading and the list: another data set may have other ids."""
    engine = current_engine()
    return engine, engine.snapshot


def _for_user(engine: Engine, snapshot: Snapshot, request: RecommendRequest) -> flask.Response:
    reader = tag_of(f"user {request.userid!r}")
    userid = internal_id(request.userid)
    arms = Arms.of(engine.experiments.assign(userid))
    asked, named = _options_of(request, reader, snapshot.data), "diversity" in request.model_fields_set
    if arms.teams:
        one, other = (Way(name, arm.snapshot(snapshot), arm.options(asked, named)) for name, arm in arms.teams.items())
        coin = partial(toss, arms.salt, userid, len(asked.shown))
        found = engine.recommender.recommend_drafted((one, other), userid, request.size, coin)
    else:
        options = arms.options(asked, named)
        found = engine.recommender.recommend(arms.snapshot(snapshot), userid, request.size, options)
    return _response(request, replace(found, arms=arms), reader, request.userid)


def _for_session(engine: Engine, snapshot: Snapshot, request: SessionRequest) -> flask.Response:
    for item in request.session:
        if internal_id(item.itemid) not in snapshot.data.items:
            return refusal(404, "session", "must hold items of the catalogue", item.itemid)
    reader = tag_of("session")
    options = _options_of(request, reader, snapshot.data)
    session = _impressions(request.session, snapshot.data)
    found = engine.recommender.recommend_for_session(snapshot, session, request.size, options)
    return _response(request, found, reader, None, len(request.session))


def _impressions(session: Sequence[SessionItem], data: ServingData) -> list[Impression]:
    """A session's items as impressions: without a rating liked, without a time as old as the item before."""
    made, ts = [], 0
    for item in session:
        ts = ts if item.ts is None else item.ts
        rating = data.scale.highest if item.rating is None else item.rating
        made.append(Impression(internal_id(item.itemid), rating, ts))
    return made


def _options_of(request: ListRequest, reader: bytes, data: ServingData) -> ListOptions:
    within = ItemFilter(
        tuple(request.genres),
        tuple(request.genres_out),
        request.year_from,
        request.year_to,
        tuple(map(internal_id, request.exclude)),
    )
    if request.cursor is None:
        return ListOptions(within, (), request.diversity)
    try:
        shown = shown_by(request.cursor, reader, data.table)
    except CursorError as error:
        flask.abort(refusal(400, "cursor", str(error), request.cursor))
    return ListOptions(within, tuple(data.table.ids[shown].tolist()), request.diversity)


def _response(
    request: ListRequest, found: Recommendation, reader: bytes, userid: ExternalId | None, session: int = 0
) -> flask.Response:
    content = recommend_response(userid, found, request, reader, session)
    notes = {name: getattr(content, name) for name in ("model_version", "fallback", "degraded")}
    note_recommendation(
        found,
        None if userid is None else internal_id(userid),
        userid=userid,
        items=len(content.items),
        **{name: value for name, value in notes.items() if value},
    )
    response = as_json(content)
    response.headers["Server-Timing"] = server_timing(found.stages)
    return response
