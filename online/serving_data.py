"""What the server takes from the artefacts and keeps: titles, popular items, and the items' features from Feast."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from data_exchange_center import catalogue
from data_exchange_center.assembler import UNKNOWN_ITEM
from data_exchange_center.columns import GENRES, ITEMID, POSITIVES, TITLE, USER_INDEX, USERID
from data_exchange_center.features import COLUMNS, Entity, feature_hash, vocabulary_sizes

READS = (catalogue.DATASET, catalogue.USERS, catalogue.ITEMS, catalogue.POPULAR_ITEMS)

Values = npt.NDArray[np.int64]


class ItemStore(Protocol):
    """Feast, or what stands for it."""

    def all_features(self, entity: Entity, ids: Sequence[int]) -> tuple[Values, npt.NDArray[np.bool_]]:
        """Values [n, columns] and whether each is known [n]."""


@dataclass(frozen=True)
class Title:
    """What a person reads of an item."""

    title: str
    genres: tuple[str, ...]


NO_TITLE = Title("", ())


@dataclass(frozen=True)
class ServingData:
    """What the server takes from the artefacts."""

    dataset: str
    feature_hash: str
    sizes: Mapping[str, int]  # of the vocabulary of each sparse feature, by name
    users: tuple[int, ...]  # known ids, for the page to choose from
    titles: dict[int, Title]
    popular: tuple[tuple[int, float], ...]  # (itemid, share of the most popular item's positives), most first

    @classmethod
    def load(cls) -> "ServingData":
        """From the catalogue.

        Raises:
            ArtefactError: an artefact is missing; the message names the stage to run.
        """
        dataset = catalogue.load_json(catalogue.DATASET)
        items, popular = catalogue.load_table(catalogue.ITEMS), catalogue.load_table(catalogue.POPULAR_ITEMS)
        users = catalogue.load_table(catalogue.USERS, [USERID, USER_INDEX])
        names = zip(items[ITEMID].to_pylist(), items[TITLE].to_pylist(), items[GENRES].to_pylist(), strict=True)
        known = zip(users[USERID].to_pylist(), users[USER_INDEX].to_pylist(), strict=True)
        positives = popular[POSITIVES].to_pylist()
        most = max(positives, default=1) or 1
        sizes = vocabulary_sizes(dataset["id_sizes"])
        return cls(
            dataset=dataset["dataset"],
            feature_hash=feature_hash(COLUMNS, sizes, dataset["id_digest"]),
            sizes=sizes,
            users=tuple(user for user, index in known if index),
            titles={itemid: Title(title, tuple(genres)) for itemid, title, genres in names},
            popular=tuple(zip(popular[ITEMID].to_pylist(), (p / most for p in positives), strict=True)),
        )

    @staticmethod
    def state() -> tuple[float, ...]:
        """Changes when one of the artefacts does."""
        return tuple(artefact.file.stat().st_mtime for artefact in READS if artefact.file.exists())


@dataclass(frozen=True)
class ItemFeatures:
    """All items' features: [n + 1] sorted ids and [n + 1, 19] values of assembler.ITEM_COLUMNS.

    The last row is no item's: it stands for all that are not among the others.
    """

    ids: Values
    values: Values

    @classmethod
    def read(cls, store: ItemStore, itemids: Sequence[int], at_a_time: int, pause: float) -> "ItemFeatures":
        """All of them, `at_a_time` in one request, `pause` seconds apart: users' requests get their turn between.

        Raises:
            ServiceUnavailable: the store does not answer.
        """
        ids, parts = sorted(itemids), []
        for start in range(0, len(ids), at_a_time):
            parts.append(store.all_features("item", ids[start : start + at_a_time])[0])
            time.sleep(pause)
        return cls(np.append(np.array(ids, np.int64), NO_ITEMS.ids), np.concatenate([*parts, NO_ITEMS.values]))

    def of(self, itemids: Values) -> Values:
        """[n, 19] features; those of an unknown item are zeros."""
        at = np.searchsorted(self.ids, itemids)
        return self.values[np.where(self.ids[at] == itemids, at, -1)]


NO_ITEMS = ItemFeatures(np.array([np.iinfo(np.int64).max]), UNKNOWN_ITEM[None])
