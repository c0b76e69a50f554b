"""What goes into the server and comes out of it: the models that validate both, and that /openapi.json is made of.

Ids are integers or text, and ratings have a scale, by the data set: see dataset_models.py.
"""

import time
from typing import Annotated, NotRequired

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict

from data_exchange_center.external_ids import ExternalId
from data_exchange_center.limits import RECALL_SIZE

DEFAULT_ITEMS = 50
CLOCKS_DIFFER = (
    86_400  # seconds by which a client's clock may be ahead; a later event would stay the newest for as long
)
MOST_EVENTS = 100
REQUEST_ID = r"^[A-Za-z0-9_.-]{1,64}$"


def _latest() -> int:
    return int(time.time()) + CLOCKS_DIFFER


def _not_in_the_future(seconds: int) -> int:
    if seconds > _latest():
        raise ValueError("must be in seconds since 1970, and a day from now at most")
    return seconds


def _integral(value: object) -> object:
    """JSON knows one kind of number: 7.0 is the integer 7, as JSON Schema has it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integral = BeforeValidator(_integral)


class RecommendRequest(BaseModel):
    """The parameters of /recommend."""

    model_config = ConfigDict(extra="forbid")

    userid: ExternalId
    size: Annotated[int, Field(ge=1, le=RECALL_SIZE), Integral] = DEFAULT_ITEMS
    explain: Annotated[bool, Field(description="adds times, ranks and the user's features")] = False


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
    ts: Annotated[
        int,
        Field(
            ge=0,
            description="seconds since 1970, a day from now at most",
            json_schema_extra=lambda schema: schema.update(maximum=_latest()),
        ),
        AfterValidator(_not_in_the_future),
        Integral,
    ]
    request_id: Annotated[
        str | None,
        Field(pattern=REQUEST_ID, description="X-Request-ID of the list that the user acted on"),
    ] = None


class Ranks(BaseModel):
    """An item's place, from 1, among the candidates of all and of each recall, before the ranking."""

    recall: int
    term: int | None
    vector: int | None


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


class TextItem(Item):
    """The same where the items' ids are text."""

    itemid: str  # type: ignore[misc]


class Explanation(BaseModel):
    """How the list came about."""

    milliseconds: Annotated[dict[str, float], Field(description="for which the request waited for each service")]
    candidates: int
    terms: list[str]
    seen: Annotated[int, Field(description="items left out")]
    user_features: dict[str, int]


class RecommendResponse(BaseModel):
    """The list, best first."""

    userid: ExternalId
    dataset: str
    model_version: str | None
    items: list[Item]
    fallback: str | None = None
    degraded: Annotated[list[str] | None, Field(description="services that could not be used")] = None
    explain: Explanation | None = None


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


class Fault(BaseModel):
    """What is wrong with a request."""

    field: str
    rule: str
    got: str


class ErrorResponse(BaseModel):
    """The response to a bad request."""

    error: Fault
