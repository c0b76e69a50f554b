"""What one request goes by from its beginning to its end, whatever is refreshed meanwhile."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from data_exchange_center.arrays import Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.features import FeatureSet
from online.callers.types import Expected, StoreFault
from online.roles import FEAST, FeatureStore
from online.serving_data import ItemMetadata, ServingData


@dataclass(frozen=True)
class ItemFeatures:
    """The features of all items, kept in memory: a request needs those of 200 items and cannot wait for them.

    Attributes:
        ids: [items + 1] sorted. The last one is no item's: its row stands for all items that are not among the others.
        values: [items + 1, columns] of `FeatureSet.item_columns`.
    """

    ids: Int64Array
    values: Int64Array

    @classmethod
    def none(cls, declared: FeatureSet) -> "ItemFeatures":
        """Of no item."""
        return cls(np.array([np.iinfo(np.int64).max]), np.zeros((1, len(declared.item_columns)), np.int64))

    @classmethod
    def read(
        cls,
        store: FeatureStore,
        declared: FeatureSet,
        items: Mapping[int, ItemMetadata],
        at_a_time: int = 500,
        pause: float = 0.0,
    ) -> "ItemFeatures":
        """Reads the features of these items.

        Args:
            store: the feature store.
            declared: the features.
            items: all items by their ids.
            at_a_time: how many items one request asks for.
            pause: seconds between two requests, in which the requests of users get their turn.

        Raises:
            ServiceUnavailable: the store does not respond.
            StoreFault: it has lost an item, or holds those of another load.
        """
        ids, index, nothing = sorted(items), declared.item_columns.index(Column.ITEM_INDEX), cls.none(declared)
        parts = []
        for start in range(0, len(ids), at_a_time):
            block = ids[start : start + at_a_time]
            values, known = store.all_features(declared, "item", block)
            right = known & (values[:, index] == [items[itemid].index for itemid in block])
            if not right.all():
                itemid = block[int(right.argmin())]
                raise StoreFault(FEAST, f"it has lost item {itemid}, or holds that of another load: run `make load`")
            parts.append(values)
            time.sleep(pause)
        return cls(
            np.append(np.array(ids, np.int64), nothing.ids),
            np.concatenate([*parts, nothing.values]),
        )

    @property
    def are_known(self) -> bool:
        """Whether there is any item."""
        return len(self.ids) > 1

    def look_up(self, itemids: Int64Array) -> Int64Array:
        """[n, columns] the features of these n items; zeros for an unknown one."""
        places = np.searchsorted(self.ids, itemids)
        return self.values[np.where(self.ids[places] == itemids, places, -1)]


@dataclass(frozen=True)
class Snapshot:
    """Data that belong together. A refresh replaces the whole; a request keeps the one that it began with.

    Attributes:
        data: what comes from the artefacts.
        item_features: of all items.
        ranking_version: the version of the ranking model that scores; empty: the newest.
    """

    data: ServingData
    item_features: ItemFeatures
    ranking_version: str = ""

    def with_ranking_version(self, version: str) -> "Snapshot":
        """The same with another version of the ranking model."""
        return replace(self, ranking_version=version)

    @property
    def expected(self) -> Expected:
        """What the services must hold to be ready."""
        return replace(self.data.expected, ranking_version=self.ranking_version)

    @classmethod
    def without_items(cls, data: ServingData) -> "Snapshot":
        """Before the items' features are read."""
        return cls(data, ItemFeatures.none(data.features))

    @property
    def has_item_features(self) -> bool:
        """Whether the items' features could be read yet."""
        return self.item_features.are_known
