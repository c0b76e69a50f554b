"""What a request for a list may hold; contract.py has what all else takes and gives.

Ids are integers or text, and ratings have a scale, by the data set: see dataset_models.py.
"""

import time
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from data_exchange_center.external_ids import ExternalId
from data_exchange_center.item_years import LATEST_YEAR
from data_exchange_center.limits import RECALL_SIZE, TOWER_IMPRESSIONS
from online.diversity import DEFAULT_DIVERSITY
from online.paging import LONGEST_CURSOR

DEFAULT_ITEMS = 50
CLOCKS_DIFFER = (
    86_400  # seconds by which a client's clock may be ahead; a later event would stay the newest for as long
)
MOST_EXCLUDED = 500
MOST_SESSION = TOWER_IMPRESSIONS


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


def absent() -> Any:
    """The default of a parameter that may be left out and may not be null."""
    return None


Timestamp = Annotated[
    int,
    Field(
        ge=0,
        description="seconds since 1970, a day from now at most",
        json_schema_extra=lambda schema: schema.update(maximum=_latest()),
    ),
    AfterValidator(_not_in_the_future),
    Integral,
]
Year = Annotated[int, Field(ge=0, le=LATEST_YEAR), Integral]


class ListRequest(BaseModel):
    """What a request asks of its list, whomever it is for."""

    model_config = ConfigDict(extra="forbid")

    size: Annotated[int, Field(ge=1, le=RECALL_SIZE), Integral] = DEFAULT_ITEMS
    explain: Annotated[bool, Field(description="adds times, ranks, rules and the user's features")] = False
    exclude: list[ExternalId] = Field(default_factory=list)
    genres: list[str] = Field(default_factory=list)
    genres_out: list[str] = Field(default_factory=list)
    year_from: Annotated[Year, Field(description="items of this year or a later one")] = Field(default_factory=absent)
    year_to: Annotated[Year, Field(description="items of this year or an earlier one")] = Field(default_factory=absent)
    cursor: Annotated[
        str,
        Field(
            min_length=1,
            max_length=LONGEST_CURSOR,
            pattern="^[A-Za-z0-9_-]+$",
            description="of the page before, as its response has it; what was shown up to there does not come again",
        ),
    ] = Field(default_factory=absent)
    diversity: Annotated[
        float,
        Field(ge=0, le=1, allow_inf_nan=False, description="0: the order of the scores; 1: items unlike each other"),
    ] = DEFAULT_DIVERSITY
    because: Annotated[bool, Field(description="adds to each item the liked ones that it is most like")] = False


class OfUser(BaseModel):
    """For whom."""

    userid: ExternalId


class RecommendRequest(ListRequest, OfUser):
    """The parameters of /recommend."""


class SessionItem(BaseModel):
    """An item that someone without an account looked at or rated."""

    model_config = ConfigDict(extra="forbid")

    itemid: ExternalId
    rating: float = Field(default_factory=absent)
    ts: Annotated[Timestamp, Field(description="the time of the item before, unless given")] = Field(
        default_factory=absent
    )


class SessionRequest(ListRequest):
    """The parameters of /recommend for someone without an account: nothing of the session is kept."""

    session: list[SessionItem]
