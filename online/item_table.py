"""The catalogue's items as arrays: what filters, re-ranking and pages look up by whole columns."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from data_exchange_center.arrays import BoolArray, Int64Array
from data_exchange_center.user_state import genre_flags
from online.callers.types import ItemFilter

NO_YEAR = -1


class Item(Protocol):
    """What the table takes of an item."""

    @property
    def genres(self) -> tuple[str, ...]:
        """By name."""

    @property
    def year(self) -> int | None:
        """None where it has none."""

    @property
    def index(self) -> int:
        """Its place in the models' tables."""


@dataclass(frozen=True, eq=False)
class ItemTable:
    """The n items, by ascending id; a row is an item's place in it.

    Attributes:
        ids: [n].
        indices: [n] item_index.
        flags: [n, genres] whether the item has the genre.
        years: [n] NO_YEAR where there is none.
        genres: the data set's, as the columns of `flags`.
    """

    ids: Int64Array
    indices: Int64Array
    flags: BoolArray
    years: Int64Array
    genres: tuple[str, ...]

    @classmethod
    def of(cls, items: Mapping[int, Item], genres: tuple[str, ...]) -> "ItemTable":
        """Of these items, by their ids."""
        ids = sorted(items)
        ordered = [items[itemid] for itemid in ids]
        return cls(
            np.array(ids, np.int64),
            np.array([item.index for item in ordered], np.int64),
            genre_flags([item.genres for item in ordered], genres).astype(bool),
            np.array([NO_YEAR if item.year is None else item.year for item in ordered], np.int64),
            genres,
        )

    def __len__(self) -> int:
        """The number of items."""
        return len(self.ids)

    @cached_property
    def digest(self) -> bytes:
        """Of the ids: rows of one table mean the same items in another of the same digest."""
        return hashlib.blake2b(self.ids.tobytes(), digest_size=4).digest()

    def rows(self, itemids: Sequence[int] | Int64Array) -> Int64Array:
        """[k] the rows of these k items; -1 for an item that is not in the catalogue."""
        asked = np.asarray(itemids, np.int64)
        if not len(self.ids):
            return np.full(len(asked), -1, np.int64)
        places = np.minimum(np.searchsorted(self.ids, asked), len(self.ids) - 1)
        found: Int64Array = np.where(self.ids[places] == asked, places, -1)
        return found

    def admitted(self, within: ItemFilter, seen: Sequence[int] = ()) -> BoolArray:
        """[n] whether an item passes the filter and is not among those seen, as the recall index decides it, too."""
        admitted = np.ones(len(self), bool)
        if within.genres:
            admitted &= self.flags[:, self._columns(within.genres)].any(axis=1)
        if within.genres_out:
            admitted &= ~self.flags[:, self._columns(within.genres_out)].any(axis=1)
        if within.year_from is not None or within.year_to is not None:
            admitted &= self.years != NO_YEAR
        if within.year_from is not None:
            admitted &= self.years >= within.year_from
        if within.year_to is not None:
            admitted &= self.years <= within.year_to
        left_out = self.rows((*seen, *within.left_out))
        admitted[left_out[left_out >= 0]] = False
        return admitted

    def _columns(self, genres: Sequence[str]) -> list[int]:
        return [self.genres.index(name) for name in genres if name in self.genres]
