"""What goes into the server and comes out of it: the models that validate both, and that /openapi.json is made of.

Requests for lists are in list_contract.py. Ids are integers or text, and ratings have a scale, by the data set: see
dataset_models.py.
"""

from typing import Annotated, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from data_exchange_center.external_ids import ExternalId
from data_exchange_center.similar_items import MEASURED_AT, MOST_SIMILAR
from online.main.list_contract import Integral, Timestamp, absent

MOST_EVENTS = 100
REQUEST_ID = r"^[A-Za-z0-9_.-]{1,64}$"


class SimilarRequest(BaseModel):
    """The parameters of /similar."""

    model_config = ConfigDict(extra="forbid")

    itemid: ExternalId
    size: Annotated[int, Field(ge=1, le=MOST_SIMILAR), Integral] = MEASURED_AT
    userid: ExternalId | None = None


class HistoryRequest(BaseModel):
    """The parameters of /history."""

    model_config = ConfigDict(extra="forbid")

    userid: ExternalId


class Event(BaseModel):
    """A rating that has just been given."""

    model_config = ConfigDict(extra="forbid")

    userid: ExternalId
    itemid: ExternalId
    rating: float
    ts: Timestamp
    request_id: Annotated[
        str | None,
        Field(pattern=REQUEST_ID, description="X-Request-ID of the list that the user acted on"),
    ] = None


class Ranks(BaseModel):
    """An item's place, from 1, among the candidates of all and of each recall, before the ranking."""

    recall: int
    term: int | None
    vector: int | None


class Reason(TypedDict):
    """An item that the user liked lately, and how like it the recommended one is: the cosine of their vectors."""

    itemid: int
    title: str
    likeness: float


class TextReason(Reason):
    """The same where the items' ids are text."""

    itemid: str  # type: ignore[misc]


class Item(TypedDict):
    """One line of the list, ordered by `score`: the rank score, or without a ranking model the recall score."""

    # No BaseModel: it is validated just as strictly, and 50 dictionaries take half the time of 50 objects.

    itemid: int
    title: str
    genres: list[str]
    score: float
    recall_score: float
    logit: Annotated[float | None, Field(description="none where the ranking model had no part")]
    recalled_by: list[str]
    ranks: NotRequired[Ranks]
    rules: NotRequired[Annotated[list[str], Field(description="that acted on the item")]]
    arm: NotRequired[Annotated[str, Field(description="of an interleaved list: whose list the item was taken from")]]
    because: NotRequired[Annotated[list[Reason], Field(description="the most alike first; none where none is alike")]]


class TextItem(Item):
    """The same where the items' ids are text."""

    itemid: str  # type: ignore[misc]
    because: NotRequired[list[TextReason]]  # type: ignore[misc]


class Explanation(BaseModel):
    """How the list came about."""

    milliseconds: Annotated[dict[str, float], Field(description="for which the request waited for each service")]
    candidates: int
    terms: list[str]
    seen: Annotated[int, Field(description="items left out")]
    user_features: dict[str, int]


class Applied(BaseModel):
    """What the list was narrowed and ordered by, beside the user's taste."""

    exclude: Annotated[int | None, Field(description="items left out because the request says so")] = None
    genres: list[str] | None = None
    genres_out: list[str] | None = None
    year_from: int | None = None
    year_to: int | None = None
    diversity: float | None = None
    rules: Annotated[list[str] | None, Field(description="that acted on an item of the list")] = None
    session: Annotated[int | None, Field(description="items that the list was made of")] = None


class RecommendResponse(BaseModel):
    """The list, best first."""

    userid: Annotated[ExternalId, Field(description="none for a session")] = Field(default_factory=absent)
    dataset: str
    model_version: str | None
    items: list[Item]
    fallback: str | None = None
    degraded: Annotated[list[str] | None, Field(description="services that could not be used")] = None
    applied: Applied | None = None
    experiments: Annotated[dict[str, str] | None, Field(description="the user's arm in each experiment")] = None
    cursor: Annotated[str | None, Field(description="for the next page; none where the list ends")] = None
    explain: Explanation | None = None


class SimilarLine(BaseModel):
    """An item that the same people like next."""

    itemid: ExternalId
    title: str
    genres: list[str]
    score: Annotated[
        float,
        Field(
            description="the share of the likes after the item, shrunk towards its vector; with `fallback` popularity"
        ),
    ]


class SimilarResponse(BaseModel):
    """The items most like an item, best first."""

    itemid: ExternalId
    dataset: str
    items: list[SimilarLine]
    fallback: str | None = None
    degraded: Annotated[list[str] | None, Field(description="services that could not be used")] = None


class Rated(BaseModel):
    """An item of the user's history."""

    itemid: ExternalId
    title: str
    genres: list[str]
    rating: float
    ts: int


class HistoryResponse(BaseModel):
    """The impressions in the user's history window, the newest first."""

    userid: ExternalId
    items: list[Rated]


class UsersResponse(BaseModel):
    """Some users that are known, to choose from."""

    users: list[ExternalId]


class EventsResponse(BaseModel):
    """What became of the events."""

    accepted: int
    duplicates: Annotated[int, Field(description="the same item and time as before")]
    degraded: Annotated[list[str] | None, Field(description="services that follow in the background")] = None


class HealthResponse(BaseModel):
    """The process lives."""

    status: str
    dataset: str


class ReadyResponse(BaseModel):
    """Which services can be used."""

    ready: bool
    missing: dict[str, str]
    breakers: dict[str, str]
    rules: Annotated[str | None, Field(description="what is wrong with RULES_FILE, whose last rules stay")] = None
    ranking_version: Annotated[
        str, Field(description="the version of the ranking model that is served; absent: the newest")
    ] = ""


class Fault(BaseModel):
    """What is wrong with a request."""

    field: str
    rule: str
    got: str


class ErrorResponse(BaseModel):
    """The response to a bad request."""

    error: Fault
