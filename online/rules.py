"""Rules that act on a ranked list: items that are pinned, boosted or buried, and caps of a genre in the first places.

They are written as TOML; docs/api.md has an example. What is read is checked against the present catalogue.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_exchange_center.columns import Column
from data_exchange_center.external_ids import ExternalId, internal_id
from data_exchange_center.limits import RECALL_SIZE
from online.serving_data import ServingData

Name = Annotated[str, Field(min_length=1, max_length=100)]


class RulesError(ValueError):
    """A file of rules that cannot be used, and why."""

    is_expected = True


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Name | None = None  # by which a response says that it acted; else its kind and number


class Pin(_Rule):
    """An item stands at a place of the list, unless the person has seen it or the request keeps it out."""

    itemid: ExternalId
    place: Annotated[int, Field(ge=1, le=RECALL_SIZE)]


class Shift(_Rule):
    """The scores of an item, or of all items of a genre, move by so much: up as a boost, down to bury them."""

    itemid: ExternalId | None = None
    genre: Name | None = None
    by: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _names_one(self) -> "Shift":
        if (self.itemid is None) == (self.genre is None):
            raise ValueError("must name either an itemid or a genre")
        return self


class Cap(_Rule):
    """Among the first `top` places stand at most so many items of a genre, as long as there are others."""

    genre: Name
    most: Annotated[int, Field(ge=0)]
    top: Annotated[int, Field(ge=1, le=RECALL_SIZE)]


class RulesDocument(BaseModel):
    """The whole file; each kind is a list of tables, `[[pin]]` for one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    pin: list[Pin] = Field(default_factory=list)
    boost: list[Shift] = Field(default_factory=list)
    bury: list[Shift] = Field(default_factory=list)
    cap: list[Cap] = Field(default_factory=list)


@dataclass(frozen=True)
class Pinned:
    """A rule that pins an item; places count from 1, over all pages."""

    name: str
    itemid: int
    place: int


@dataclass(frozen=True)
class Shifted:
    """A rule that moves the scores of an item or of a genre by an offset; the other of the two is None."""

    name: str
    itemid: int | None
    genre: str | None
    offset: float


@dataclass(frozen=True)
class Capped:
    """A rule that allows `most` items of a genre among the first `top`, over all pages."""

    name: str
    genre: str
    most: int
    top: int


@dataclass(frozen=True)
class Rules:
    """All rules, the pinned items by their places."""

    pins: tuple[Pinned, ...] = ()
    shifts: tuple[Shifted, ...] = ()
    caps: tuple[Capped, ...] = ()

    @cached_property
    def pinned(self) -> frozenset[int]:
        """The items whose places are the rules' own."""
        return frozenset(pin.itemid for pin in self.pins)

    @property
    def are_any(self) -> bool:
        """Whether there is a rule."""
        return self != NO_RULES


NO_RULES = Rules()


def read_rules(text: str, data: ServingData) -> Rules:
    """The rules in a text.

    Raises:
        RulesError: it is no TOML, has an unknown key or a value out of its range, names an item or a genre that the
            data set does not have, or pins two items to one place or one item to two.
    """
    try:
        document = RulesDocument.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"is no TOML: {error}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        raise RulesError(f"{_place(fault['loc'])}: {fault['msg']} (got {fault['input']!r})") from None
    _check_names(document, data)
    _check_pins(document.pin)
    pins = [Pinned(_name(pin, "pin", number), _id(pin.itemid), pin.place) for number, pin in _numbered(document.pin)]
    shifts = [
        Shifted(
            _name(rule, kind, number), None if rule.itemid is None else _id(rule.itemid), rule.genre, sign * rule.by
        )
        for kind, rules, sign in (("boost", document.boost, 1), ("bury", document.bury, -1))
        for number, rule in _numbered(rules)
    ]
    caps = [Capped(_name(cap, "cap", number), cap.genre, cap.most, cap.top) for number, cap in _numbered(document.cap)]
    return Rules(tuple(sorted(pins, key=lambda pin: pin.place)), tuple(shifts), tuple(caps))


def _numbered(rules: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    return enumerate(rules, start=1)


def _name(rule: _Rule, kind: str, number: int) -> str:
    return rule.name or f"{kind} {number}"


def _id(external: ExternalId) -> int:
    return internal_id(external)


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in the file a fault is, in the words of `_name`."""
    parts = [f"{part + 1}" if isinstance(part, int) else part for part in loc]
    return " ".join(parts[:2]) + "".join(f", {part}" for part in parts[2:])


def _check_names(document: RulesDocument, data: ServingData) -> None:
    """Raises RulesError where an item or a genre is none of the data set's."""
    are_text, genres = Column.ITEMID in data.text_ids, data.features.categories.genres
    for kind in RulesDocument.model_fields:
        for number, rule in _numbered(getattr(document, kind)):
            itemid, genre = getattr(rule, "itemid", None), getattr(rule, "genre", None)
            if itemid is not None and (isinstance(itemid, str) != are_text or _id(itemid) not in data.items):
                raise RulesError(f"{kind} {number}, itemid: {itemid!r} is no item of the catalogue of {data.dataset}")
            if genre is not None and genre not in genres:
                raise RulesError(f"{kind} {number}, genre: {genre!r} is none of {', '.join(genres)}")


def _check_pins(pins: list[Pin]) -> None:
    """Raises RulesError where two pins contradict each other."""
    for what in ("place", "itemid"):
        twice = [value for value, count in Counter(getattr(pin, what) for pin in pins).items() if count > 1]
        if twice:
            raise RulesError(f"pin, {what}: {twice[0]!r} stands in two pins, and may stand in one")
