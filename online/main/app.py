"""The web application: reads a request, asks the recommender, writes JSON. No input makes it answer 500."""

from typing import Annotated, Any

import flask
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import HTTPException

from data_exchange_center.settings import Settings
from online.callers.es_caller import ElasticsearchCaller
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller
from online.callers.triton_caller import TritonCaller
from online.recommender import Callers, Recommendation, Recommender, ServingData

MOST_BODY_BYTES = 16 * 1024
MOST_ITEMS = 200
DEFAULT_ITEMS = 50
LARGEST_ID = 2**63 - 1
# Seconds that a request waits for each service: together under the second in which an answer must come.
TIMEOUTS = {"redis": 0.1, "elasticsearch": 0.3, "feast": 0.3, "triton": 0.2}
REFRESH_SECONDS = 30.0


class RecommendRequest(BaseModel):
    """The parameters of /recommend."""

    model_config = ConfigDict(extra="forbid")

    userid: Annotated[int, Field(ge=0, le=LARGEST_ID)]
    size: Annotated[int, Field(ge=1, le=MOST_ITEMS)] = DEFAULT_ITEMS


def make_callers(settings: Settings, data: ServingData) -> Callers:
    """The real services."""
    return Callers(
        redis=RedisCaller(settings, TIMEOUTS["redis"]),
        elasticsearch=ElasticsearchCaller(settings, TIMEOUTS["elasticsearch"]),
        feast=FeastCaller(settings, TIMEOUTS["feast"], settings.web_threads),
        triton=TritonCaller(settings, TIMEOUTS["triton"], data.feature_hash),
    )


def refusal(status: int, field: str, rule: str, got: Any = None) -> flask.Response:
    """A 4xx answer that names the field and the rule."""
    answer = flask.jsonify({"error": {"field": field, "rule": rule, "got": repr(got)[:200]}})
    answer.status_code = status
    return answer


def read_request() -> RecommendRequest:
    """The request's parameters.

    Raises:
        ValidationError: a parameter is missing, unknown or out of its range.
        HTTPException: the body is too large, no JSON, or of another type.
    """
    if flask.request.method == "GET":
        values = flask.request.args
        twice = [name for name in values if len(values.getlist(name)) > 1]
        if twice:
            flask.abort(refusal(400, twice[0], "may stand once", values.getlist(twice[0])))
        return RecommendRequest.model_validate_strings(values.to_dict())
    if flask.request.mimetype != "application/json":
        flask.abort(refusal(415, "Content-Type", "must be application/json", flask.request.content_type))
    return RecommendRequest.model_validate_json(flask.request.get_data(), strict=True)


def answer_json(userid: int, answer: Recommendation, data: ServingData) -> dict[str, Any]:
    """The answer as the page and the client read it."""
    content: dict[str, Any] = {
        "userid": userid,
        "dataset": data.dataset,
        "model_version": answer.model_version,
        "items": [
            {
                "itemid": item.itemid,
                "title": data.titles[item.itemid].title if item.itemid in data.titles else "",
                "genres": list(data.titles[item.itemid].genres) if item.itemid in data.titles else [],
                "score": item.score,
                "recall_score": item.recall_score,
                "logit": item.logit,
                "recalled_by": list(item.recalled_by),
            }
            for item in answer.items
        ],
    }
    if answer.fallback:
        content["fallback"] = answer.fallback
    if answer.degraded:
        content["degraded"] = sorted(set(answer.degraded))
    return content


def create_app(
    settings: Settings | None = None, callers: Callers | None = None, data: ServingData | None = None
) -> flask.Flask:
    """The application.

    Args:
        settings: from the environment unless given.
        callers: the real services unless given.
        data: from the artefacts unless given.
    """
    settings = settings or Settings()
    data = data or ServingData.load()
    recommender = Recommender(callers or make_callers(settings, data), data, REFRESH_SECONDS, settings.web_threads)
    app = flask.Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["recommender"] = recommender

    @app.route("/recommend", methods=["GET", "POST"])
    def recommend() -> flask.Response:
        request = read_request()
        answer = recommender.recommend(request.userid, request.size)
        response = flask.jsonify(answer_json(request.userid, answer, data))
        stages = ", ".join(f"{name};dur={seconds * 1000:.2f}" for name, seconds in answer.stages.items())
        response.headers["Server-Timing"] = stages
        return response

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "live", "dataset": data.dataset}

    @app.errorhandler(ValidationError)
    def invalid(error: ValidationError) -> flask.Response:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"])) or "body"
        return refusal(400, field, fault["msg"], fault.get("input"))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> flask.Response:
        if error.response is not None:
            return error.response  # type: ignore[return-value]
        field = "body" if error.code == 413 else flask.request.path
        rule = f"at most {MOST_BODY_BYTES} bytes" if error.code == 413 else str(error.description)
        return refusal(error.code or 500, field, rule, flask.request.method)

    return app
