"""The categories of a data set, and MovieLens's. Index 0 is "unknown" in every vocabulary.

Standard library only: the Feast server's container reads this through features.py.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = 0

GENRES: tuple[str, ...] = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)


GENDERS = ("M", "F")
AGES = ("1", "18", "25", "35", "45", "50", "56")
OCCUPATIONS = tuple(map(str, range(21)))


@dataclass(frozen=True, eq=False)
class Categories:
    """The categories of a data set, each at its place: its index is the place counted from 1.

    Attributes:
        genres: those that an item may have several of; recall by term searches for them.
        user: the categories of each column that describes a user, by the column's name.
        item: likewise of an item.
    """

    genres: tuple[str, ...]
    user: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    item: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Categories":
        """From the fields as JSON has them."""
        user, item = ({n: tuple(values) for n, values in fields[entity].items()} for entity in ("user", "item"))
        return cls(tuple(fields["genres"]), user, item)

    @property
    def _in_order(self) -> tuple[Any, ...]:
        return self.genres, tuple(self.user.items()), tuple(self.item.items())

    def __eq__(self, other: object) -> bool:
        """Whether they are the same in the same order: the features' order follows that of the columns."""
        return isinstance(other, Categories) and self._in_order == other._in_order

    def __hash__(self) -> int:
        """Of the contents, so that what is derived from them can be kept."""
        return hash(self._in_order)


MOVIELENS = Categories(GENRES, {"gender": GENDERS, "age": AGES, "occupation": OCCUPATIONS})


def indices(categories: Iterable[str]) -> dict[str, int]:
    """The index of each category."""
    return {category: index for index, category in enumerate(categories, start=1)}


# What the age and occupation codes of users.dat mean, from MovieLens-1M's own README.
AGE_LABELS = {"1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+"}


def slugs(names: Sequence[str]) -> tuple[str, ...]:
    """Each name as a part of a column's name: `Children's` → `childrens`, `Sci-Fi` → `sci_fi`.

    A name of which nothing is left, or what another one has already, gets its place from 1 behind it.
    """
    plain = [re.sub("[^a-z0-9]+", "_", name.lower().replace("'", "")).strip("_") for name in names]
    found: list[str] = []
    for place, slug in enumerate(plain, start=1):
        own = slug
        while not own or own in found or (own != slug and own in plain):
            own = f"{own}_{place}".strip("_")
        found.append(own)
    return tuple(found)
