"""The web application: reads a request, asks the recommender, writes JSON. No input makes it answer 500."""

import logging
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

import flask
import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, TypeAdapter, ValidationError
from werkzeug.exceptions import HTTPException

from data_exchange_center.assembler import USER_COLUMNS
from data_exchange_center.scoring import TERM_BOOST
from data_exchange_center.settings import Settings
from online.callers.es_caller import ElasticsearchCaller
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller
from online.callers.triton_caller import TritonCaller
from online.callers.types import Candidates, Impression, ServiceUnavailable
from online.main import contract as c
from online.main import metrics
from online.main.openapi import openapi_document
from online.recommender import Callers, Recommendation, Recommender
from online.serving_data import NO_TITLE, ServingData

MOST_BODY_BYTES = 16 * 1024
USERS_TO_CHOOSE_FROM = 200
# Seconds that a request waits for each service: together under the second in which an answer must come.
TIMEOUTS = {"redis": 0.1, "elasticsearch": 0.3, "feast": 0.3, "triton": 0.2}
REFRESH_SECONDS = 60.0

REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)

requests_log = logging.getLogger("recsys_pipeline.requests")

Model = TypeVar("Model", bound=BaseModel)
_events = TypeAdapter(list[c.Event])


def make_callers(settings: Settings) -> Callers:
    """The real services."""
    return Callers(
        redis=RedisCaller(settings, TIMEOUTS["redis"]),
        elasticsearch=ElasticsearchCaller(settings, TIMEOUTS["elasticsearch"]),
        feast=FeastCaller(settings, TIMEOUTS["feast"], settings.web_threads),
        triton=TritonCaller(settings, TIMEOUTS["triton"]),
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def refusal(status: int, field: str, rule: str, got: Any = None) -> flask.Response:
    """An answer that names the field and the rule."""
    fault = c.ErrorAnswer(error=c.Fault(field=field, rule=rule, got=repr(got)[:200]))
    return as_json(fault, status)


def query_of(model: type[Model]) -> Model:
    """The request's query.

    Raises:
        ValidationError: a parameter is missing, unknown or out of its range.
        HTTPException: a parameter stands twice.
    """
    values = flask.request.args
    twice = [name for name in values if len(values.getlist(name)) > 1]
    if twice:
        flask.abort(refusal(400, twice[0], "may stand once", values.getlist(twice[0])))
    return model.model_validate_strings(values.to_dict())


def body() -> bytes:
    """The request's body.

    Raises:
        HTTPException: it is too large, or of another type than JSON.
    """
    if flask.request.mimetype != "application/json":
        flask.abort(refusal(415, "Content-Type", "must be application/json", flask.request.content_type))
    return flask.request.get_data()


def events_of(content: bytes) -> list[c.Event]:
    """One event, or a list of them.

    Raises:
        ValidationError: the body is neither.
        HTTPException: there are none, or too many.
    """
    if not content.lstrip().startswith(b"["):
        return [c.Event.model_validate_json(content, strict=True)]
    events = _events.validate_json(content, strict=True)
    if not 1 <= len(events) <= c.MOST_EVENTS:
        flask.abort(refusal(400, "body", f"a list holds 1 to {c.MOST_EVENTS} events", len(events)))
    return events


# --- writing ---------------------------------------------------------------------------------------------------------


def as_json(model: BaseModel, status: int = 200) -> flask.Response:
    """The model as an answer; what was not set is left out."""
    return flask.Response(model.model_dump_json(exclude_unset=True), status, mimetype="application/json")


def answer_of(userid: int, found: Recommendation, explain: bool) -> c.RecommendAnswer:
    """What the page, the client and whoever else asks get to read."""
    titles = found.snapshot.data.titles
    ranks = ranks_of(found.candidates) if explain else {}
    items: list[dict[str, Any]] = []
    for itemid, score, recall_score, logit, recalled_by in found.items:
        title = titles.get(itemid, NO_TITLE)
        line = {
            "itemid": itemid,
            "title": title.title,
            "genres": title.genres,
            "score": score,
            "recall_score": recall_score,
            "logit": logit,
            "recalled_by": recalled_by,
        }
        if itemid in ranks:
            line["ranks"] = ranks[itemid]
        items.append(line)
    answer: dict[str, Any] = {
        "userid": userid,
        "dataset": found.snapshot.data.dataset,
        "model_version": found.model_version,
        "items": items,
    }
    if found.fallback:
        answer["fallback"] = found.fallback
    if found.degraded:
        answer["degraded"] = sorted(set(found.degraded))
    if explain:
        features = found.user_features
        answer["explain"] = {
            "milliseconds": {name: round(seconds * 1000, 3) for name, seconds in found.stages.items()},
            "candidates": len(found.candidates),
            "blend_weight": found.blend_weight,
            "terms": found.user.terms if found.user else [],
            "seen": len(found.user.seen) if found.user else 0,
            "user_features": {} if features is None else dict(zip(USER_COLUMNS, features.tolist(), strict=True)),
        }
    # Validated as a whole, in pydantic's own core: a model for each of the 50 lines takes three times as long.
    return c.RecommendAnswer.model_validate(answer)


def ranks_of(candidates: Candidates) -> dict[int, c.Ranks]:
    """Each candidate's place as recall returned them: among all, among the terms' and among the vector's."""
    ids, by_vector = candidates.itemids, candidates.by_vector
    nearness = (candidates.es_scores - TERM_BOOST * candidates.by_term)[by_vector]
    ranks_by_term, ranks_by_vector = (
        {itemid: place for place, itemid in enumerate(found.tolist(), start=1)}
        for found in (ids[candidates.by_term], ids[by_vector][np.argsort(-nearness, kind="stable")])
    )
    return {
        itemid: c.Ranks(recall=place, term=ranks_by_term.get(itemid), vector=ranks_by_vector.get(itemid))
        for place, itemid in enumerate(ids.tolist(), start=1)
    }


# --- the application -------------------------------------------------------------------------------------------------


def create_app(
    settings: Settings | None = None,
    callers: Callers | None = None,
    load: Callable[[], ServingData] = ServingData.load,
    changed: Callable[[], object] = ServingData.state,
) -> flask.Flask:
    """The application.

    Args:
        settings: from the environment unless given.
        callers: the real services unless given.
        load, changed: what comes from the artefacts, and a value that differs once it does.
    """
    settings = settings or Settings()
    recommender = Recommender(callers or make_callers(settings), load, REFRESH_SECONDS, settings.web_threads, changed)
    document = openapi_document()
    app = flask.Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    app.extensions["recommender"] = recommender

    @app.before_request
    def begin() -> None:
        given = flask.request.headers.get("X-Request-ID", "")
        flask.g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        flask.g.began = time.perf_counter()

    @app.after_request
    def finish(response: flask.Response) -> flask.Response:
        seconds = time.perf_counter() - flask.g.began
        # Only paths that exist become labels: whoever scans for others must not fill the memory.
        path = flask.request.url_rule.rule if flask.request.url_rule else "other"
        response.headers["X-Request-ID"] = flask.g.request_id
        said = {
            "request_id": flask.g.request_id,
            "method": flask.request.method,
            "path": path,
            "status": response.status_code,
            "milliseconds": round(seconds * 1000, 2),
            **flask.g.get("said", {}),
        }
        found: Recommendation | None = flask.g.get("found")

        response.direct_passthrough = False  # of files: what is passed through is never closed

        @response.call_on_close  # once the answer is sent: nobody waits for what is noted of it
        def note() -> None:
            metrics.REQUESTS.labels(path, response.status_code).observe(seconds)
            if found:
                metrics.count(found)
            requests_log.info("request", extra=said)

        return response

    def recommend(asked: c.RecommendRequest) -> flask.Response:
        found = recommender.recommend(asked.userid, asked.size)
        flask.g.found = found
        answer = answer_of(asked.userid, found, asked.explain)
        flask.g.said = {"userid": asked.userid, "items": len(answer.items)}
        for name in ("model_version", "fallback", "degraded"):
            if getattr(answer, name):
                flask.g.said[name] = getattr(answer, name)
        response = as_json(answer)
        stages = ", ".join(f"{name};dur={seconds * 1000:.2f}" for name, seconds in found.stages.items())
        response.headers["Server-Timing"] = stages
        return response

    @app.get("/recommend")
    def get_recommend() -> flask.Response:
        return recommend(query_of(c.RecommendRequest))

    @app.post("/recommend")
    def post_recommend() -> flask.Response:
        return recommend(c.RecommendRequest.model_validate_json(body(), strict=True))

    @app.post("/events")
    def events() -> flask.Response:
        received = events_of(body())
        by_user: dict[int, list[Impression]] = defaultdict(list)
        for event in received:
            if event.itemid not in recommender.data.titles:
                return refusal(404, "itemid", "must be an item of the catalogue", event.itemid)
            by_user[event.userid].append(Impression(event.itemid, event.rating, event.ts))
        recorded = [recommender.record(userid, impressions) for userid, impressions in by_user.items()]
        new = sum(count for count, _ in recorded)
        answer = c.EventsAnswer(accepted=new, duplicates=len(received) - new)
        metrics.EVENTS.labels("accepted").inc(new)
        metrics.EVENTS.labels("duplicate").inc(len(received) - new)
        if not all(complete for _, complete in recorded):
            answer.degraded = ["feast"]
        return as_json(answer)

    @app.get("/history")
    def history() -> flask.Response:
        userid, titles = query_of(c.HistoryRequest).userid, recommender.data.titles
        rated = [(i, titles.get(i.itemid, NO_TITLE)) for i in recommender.history(userid)]
        items = [
            c.Rated(itemid=i.itemid, title=title.title, genres=list(title.genres), rating=i.rating, ts=i.timestamp)
            for i, title in rated
        ]
        return as_json(c.HistoryAnswer(userid=userid, items=items))

    @app.get("/users")
    def users() -> flask.Response:
        known = recommender.data.users
        return as_json(c.UsersAnswer(users=list(known[:: max(len(known) // USERS_TO_CHOOSE_FROM, 1)])))

    @app.get("/health")
    def health() -> flask.Response:
        return as_json(c.Health(status="live", dataset=recommender.data.dataset))

    @app.get("/ready")
    def ready() -> flask.Response:
        missing = recommender.missing()
        return as_json(
            c.Ready(ready=not missing, missing=missing, breakers=recommender.breaker_states()), 503 if missing else 200
        )

    @app.get("/metrics")
    def exposition() -> flask.Response:
        return flask.Response(metrics.exposition(recommender.breaker_states()), content_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json")
    def openapi() -> flask.Response:
        return flask.jsonify(document)

    @app.get("/")
    def page() -> str:
        return flask.render_template("page.html", dataset=recommender.data.dataset)

    @app.errorhandler(ValidationError)
    def invalid(error: ValidationError) -> flask.Response:
        fault = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, fault["loc"])) or "body"
        return refusal(400, field, fault["msg"], fault.get("input"))

    @app.errorhandler(ServiceUnavailable)
    def unavailable(error: ServiceUnavailable) -> flask.Response:
        response = refusal(503, error.service, "cannot be used now; try again in a second")
        response.headers["Retry-After"] = "1"
        return response

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> flask.Response:
        if error.response is not None:
            return error.response  # type: ignore[return-value]
        field = "body" if error.code == 413 else flask.request.path
        rule = f"at most {MOST_BODY_BYTES} bytes" if error.code == 413 else str(error.description)
        response = refusal(error.code or 500, field, rule, flask.request.method)
        allowed = getattr(error, "valid_methods", None)
        if allowed:
            response.headers["Allow"] = ", ".join(sorted(allowed))
        return response

    return app
