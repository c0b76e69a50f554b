"""The neighbours that an item's document holds: taken from the artefact, and read back as the server reads them."""

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import pyarrow.compute as pc

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.columns import Column
from offline_to_online.loader import LoadError
from online.callers.es_similar_caller import SimilarItemsCaller


class StoredNeighbours(TypedDict):
    """The neighbours of an item, best first."""

    itemids: Int64Array
    scores: Float32Array


def stored_neighbours() -> list[StoredNeighbours]:
    """Those of each item of the catalogue, by itemid; slices of one array, however many there are."""
    table = catalogue.SIMILAR_ITEMS.load([Column.SIMILAR_ITEMS, Column.SIMILAR_SCORES])
    ends = np.cumsum(pc.list_value_length(table[Column.SIMILAR_ITEMS]))[:-1]
    itemids, scores = (np.split(pc.list_flatten(column).to_numpy(), ends) for column in table.columns)
    return [StoredNeighbours(itemids=found, scores=values) for found, values in zip(itemids, scores, strict=True)]


def check_neighbours(
    caller: SimilarItemsCaller, name: str, load: str, expected: Mapping[int, StoredNeighbours]
) -> None:
    """Asks for the neighbours of some items, one by one, as the server does.

    Args:
        caller: the server's own.
        name, load: the index, and the digest of the load that it is of.
        expected: what was loaded, by itemid.

    Raises:
        LoadError: naming the first item whose neighbours differ.
    """
    for itemid, neighbours in expected.items():
        found = caller.similar(itemid, load, name)
        itemids, scores = neighbours["itemids"].tolist(), neighbours["scores"]
        if [line.itemid for line in found] != itemids or not np.array_equal(
            np.array([line.score for line in found], np.float32), scores
        ):
            raise LoadError(
                f"Elasticsearch lists {found[:3]}... beside item {itemid}, but {itemids[:3]}... were loaded."
            )
