"""/recommend: the top list for a user."""

from collections.abc import Callable

import flask

from data_exchange_center.external_ids import internal_id
from online.main.contract import RecommendRequest
from online.main.current import current_engine
from online.main.dataset_models import models_of
from online.main.parsing import parse_body, parse_query
from online.main.request_log import note_recommendation
from online.main.responses import as_json, recommend_response

blueprint = flask.Blueprint("recommendations", __name__)


@blueprint.get("/recommend")
def get_recommend() -> flask.Response:
    """The top list, the parameters in the query."""
    return _recommend(parse_query)


@blueprint.post("/recommend")
def post_recommend() -> flask.Response:
    """The top list, the parameters in the body."""
    return _recommend(parse_body)


def _recommend(parse: Callable[[type[RecommendRequest]], RecommendRequest]) -> flask.Response:
    engine = current_engine()
    snapshot = engine.snapshot  # the same for the reading and the list: another data set may have other ids
    request = parse(models_of(snapshot.data).recommend_request)
    user = internal_id(request.userid)
    recommendation = engine.recommender.recommend(snapshot, user, request.size)
    content = recommend_response(request.userid, recommendation, request.explain)
    notes = {name: getattr(content, name) for name in ("model_version", "fallback", "degraded")}
    note_recommendation(
        recommendation,
        user,
        userid=request.userid,
        items=len(content.items),
        **{name: value for name, value in notes.items() if value},
    )
    response = as_json(content)
    times = (f"{name};dur={seconds * 1000:.2f}" for name, seconds in recommendation.stages.items())
    response.headers["Server-Timing"] = ", ".join(times)
    return response
