"""The models of contract.py for one data set: whether its ids are integers or text, and the scale of its ratings."""

from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, create_model
from pydantic_core import PydanticCustomError

from data_exchange_center.columns import Column
from data_exchange_center.dataset import RatingScale
from data_exchange_center.external_ids import LONGEST_ID
from data_exchange_center.limits import LARGEST_ID
from online.main import contract, list_contract
from online.serving_data import ServingData

Model = TypeVar("Model", bound=BaseModel)


class Models(NamedTuple):
    """Those models that differ from data set to data set."""

    recommend_request: type[list_contract.RecommendRequest]
    session_request: type[list_contract.SessionRequest]
    similar_request: type[contract.SimilarRequest]
    history_request: type[contract.HistoryRequest]
    event: type[contract.Event]
    events: TypeAdapter[list[contract.Event]]
    recommend_response: type[contract.RecommendResponse]
    similar_response: type[contract.SimilarResponse]
    history_response: type[contract.HistoryResponse]
    users_response: type[contract.UsersResponse]


def models_of(data: ServingData) -> Models:
    """The models for the data set that is served."""
    return models_for(data.text_ids, data.scale, data.features.categories.genres)


@lru_cache(maxsize=4)  # a process sees another data set only when one is loaded
def models_for(text_ids: frozenset[str], scale: RatingScale, genres: tuple[str, ...]) -> Models:
    """The models for a data set.

    Args:
        text_ids: those of `userid` and `itemid` that are text.
        scale: of the ratings.
        genres: that items may have.
    """
    users_are_text, items_are_text = Column.USERID in text_ids, Column.ITEMID in text_ids
    userid = _asked_id(users_are_text, 0, "as in the raw data; an unknown one gets popular items")
    itemid = _asked_id(items_are_text, 1, "of the catalogue")
    rating = Annotated[float, Field(ge=scale.lowest, le=scale.highest, allow_inf_nan=False)]
    event = _narrowed(contract.Event, userid=userid, itemid=itemid, rating=rating)
    seen_by = _asked_id(users_are_text, 0, "whose seen items are left out")
    own_userid, own_itemid = (str if is_text else int for is_text in (users_are_text, items_are_text))
    item: Any = contract.TextItem if items_are_text else contract.Item
    rated: Any = _narrowed(contract.Rated, itemid=own_itemid)
    line: Any = _narrowed(contract.SimilarLine, itemid=own_itemid)
    users: Any = list[own_userid]  # type: ignore[valid-type]
    conditions = _conditions(itemid, genres)
    session: Any = _session(_narrowed(list_contract.SessionItem, itemid=itemid, rating=rating))
    return Models(
        recommend_request=_narrowed(list_contract.RecommendRequest, userid=userid, **conditions),
        session_request=_narrowed(list_contract.SessionRequest, session=session, **conditions),
        similar_request=_narrowed(contract.SimilarRequest, itemid=itemid, userid=seen_by),
        history_request=_narrowed(contract.HistoryRequest, userid=userid),
        event=event,
        events=TypeAdapter(list[event]),  # type: ignore[valid-type]
        recommend_response=_narrowed(contract.RecommendResponse, userid=own_userid, items=list[item]),
        similar_response=_narrowed(contract.SimilarResponse, itemid=own_itemid, items=list[line]),
        history_response=_narrowed(contract.HistoryResponse, userid=own_userid, items=list[rated]),
        users_response=_narrowed(contract.UsersResponse, users=users),
    )


def _narrowed(base: type[Model], **types: Any) -> type[Model]:
    """The model with these fields of these types, under its own name: that is what /openapi.json calls it."""
    fields: Any = {}
    for name, kind in types.items():
        field = base.model_fields[name]
        default = Field(default_factory=field.default_factory) if field.default_factory else field.default
        fields[name] = (kind, ... if field.is_required() else default)
    return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)


def _session(item: Any) -> Any:
    """The type of a session of such items."""
    about = "in order, the newest last; without a rating an item counts as liked"
    return Annotated[list[item], Field(min_length=1, max_length=list_contract.MOST_SESSION, description=about)]


def _conditions(itemid: Any, genres: tuple[str, ...]) -> dict[str, Any]:
    """The types of the lists by which a request narrows the catalogue."""
    excluded: Any = Annotated[
        list[itemid], Field(max_length=list_contract.MOST_EXCLUDED, description="items that the list is to leave out")
    ]
    genre: Any = Literal[genres] if genres else str
    most = len(genres)
    return {
        "exclude": excluded,
        "genres": Annotated[list[genre], Field(max_length=most, description="items of one of these at least")],
        "genres_out": Annotated[list[genre], Field(max_length=most, description="items of none of these")],
    }


def _asked_id(is_text: bool, lowest: int, about: str) -> Any:
    """The type of an id in a request."""
    if is_text:
        return Annotated[str, Field(min_length=1, max_length=LONGEST_ID, description=about), BeforeValidator(_text)]
    return Annotated[int, Field(ge=lowest, le=LARGEST_ID, description=about), list_contract.Integral]


def _text(value: object) -> object:
    """Refuses a number: 7 may have been meant as "7" or as "007"."""
    if not isinstance(value, str):
        raise PydanticCustomError("text", "must be text, in quotes: this data set has text ids")
    return value
