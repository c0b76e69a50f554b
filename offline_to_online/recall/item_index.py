"""An Elasticsearch index of items: created, filled, checked against what was loaded, and put behind the alias."""

from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

import numpy as np
from elasticsearch import Elasticsearch, helpers

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.item_years import item_years
from data_exchange_center.limits import RECALL_SIZE
from data_exchange_center.serving_names import (
    ES_ALIAS,
    ES_CELLS,
    ES_CENTROIDS,
    ES_GENRES,
    ES_ITEMID,
    ES_POPULARITY,
    ES_SIMILAR,
    ES_UNSEARCHED_VECTOR,
    ES_VECTOR,
    ES_YEAR,
)
from offline_to_online.loader import LoadError
from offline_to_online.recall.item_cells import ItemCells
from offline_to_online.recall.item_neighbours import StoredNeighbours, stored_neighbours
from online.callers.es_caller import ElasticsearchCaller
from online.callers.types import UserRecall

LEAST_OVERLAP = 0.98  # of the top 200 found with the exact one, on average
SCORE_TOLERANCE = 1e-4  # relative; Elasticsearch computes in float32
DOCUMENTS_AT_A_TIME = 2000

ITEM_READS = (
    catalogue.DATASET,
    catalogue.ITEMS,
    catalogue.POPULAR_ITEMS,
    catalogue.SEQUENCE_ITEM_VECTORS,
    catalogue.SIMILAR_ITEMS,
)


class ItemDocument(TypedDict):
    """One item to be stored; the fields are named in serving_names.py."""

    itemid: str
    genres: list[str]
    vector: Float32Array  # [dimensions]
    popularity: int  # positives in the training rows
    similar: StoredNeighbours
    year: NotRequired[int]


def item_documents() -> list[ItemDocument]:
    """One document an item, by itemid."""
    items, popular = catalogue.ITEMS.load(), catalogue.POPULAR_ITEMS.load()
    vectors = catalogue.SEQUENCE_ITEM_VECTORS.load()[items[Column.ITEM_INDEX].to_numpy()]
    positives = dict(zip(popular[Column.ITEMID].to_pylist(), popular[Column.POSITIVES].to_pylist(), strict=True))
    years = item_years(items, catalogue.DATASET.load().categories.item)
    columns = (items[Column.ITEMID].to_pylist(), items[Column.GENRES].to_pylist(), vectors, stored_neighbours(), years)
    documents = []
    for itemid, genres, vector, similar, year in zip(*columns, strict=True):
        document = ItemDocument(
            itemid=str(itemid), genres=genres, vector=vector, popularity=positives[itemid], similar=similar
        )
        if year is not None:
            document["year"] = year
        documents.append(document)
    return documents


def stored_vectors(client: Elasticsearch, itemids: Int64Array, dimensions: int) -> Float32Array:
    """[items, dimensions] the vectors of these items behind the alias; NaN for an item that is not there."""
    vectors = np.full((len(itemids), dimensions), np.nan, np.float32)
    for hit in helpers.scan(client, index=ES_ALIAS, size=2000, query={"_source": [ES_VECTOR, ES_UNSEARCHED_VECTOR]}):
        place = np.searchsorted(itemids, int(hit["_id"]))
        if place < len(itemids) and itemids[place] == int(hit["_id"]):
            vectors[place] = _vector_of(hit["_source"])
    return vectors


def create_index(
    client: Elasticsearch, name: str, dimensions: int, cells: ItemCells | None = None, replicas: int = 0
) -> None:
    """An empty index with explicit mappings: a field that is not declared is an error, not a guess.

    Elasticsearch compares a user's vector with one item's after the other, in single precision, so that scores are the
    model's own. Without cells it does so with all items. With cells the mapping's `_meta` says where they are, by which
    the server knows how to search, and only the items of a cell have a vector that it looks at. docs/benchmarks.md
    has why it is no graph of vectors.

    Args:
        client, name: where.
        dimensions: of the vectors.
        cells: for an approximate search.
        replicas: further copies, which are given their nodes first, where the nodes are there.
    """
    properties: dict[str, Any] = {
        ES_ITEMID: {"type": "keyword"},
        ES_GENRES: {"type": "keyword"},
        ES_POPULARITY: {"type": "integer"},
        ES_YEAR: {"type": "short"},
        ES_SIMILAR: {"type": "object", "enabled": False},
        ES_VECTOR: {
            "type": "dense_vector",
            "dims": dimensions,
            "similarity": "max_inner_product",
            "index_options": {"type": "flat"},
        },
    }
    mappings: dict[str, Any] = {"dynamic": "strict", "properties": properties}
    if cells is not None:
        properties[ES_CELLS] = {"type": "keyword", "doc_values": False}
        properties[ES_UNSEARCHED_VECTOR] = {"type": "object", "enabled": False}  # kept, not indexed
        mappings["_meta"] = {ES_CENTROIDS: cells.cells.encoded()}
    client.indices.create(
        index=name,
        wait_for_active_shards="all",
        settings={
            "number_of_shards": 1,
            "number_of_replicas": replicas,
            "refresh_interval": "-1",
            "sort.field": ES_POPULARITY,
            "sort.order": "desc",
        },
        mappings=mappings,
    )


def source(content: list[ItemDocument], row: int, cells: ItemCells | None) -> dict[str, Any]:
    """An item as Elasticsearch stores it."""
    if cells is None:
        return {**content[row]}
    own = cells.of(row)
    kept = {field: value for field, value in content[row].items() if field != ES_VECTOR}
    return {**kept, ES_CELLS: own, (ES_VECTOR if own else ES_UNSEARCHED_VECTOR): content[row]["vector"]}


def fill_index(client: Elasticsearch, name: str, content: list[ItemDocument], cells: ItemCells | None = None) -> None:
    """Writes all documents in bulk, as one segment; `cells` are those that the index was created with."""
    actions = (
        {"_index": name, "_id": document["itemid"], "_source": source(content, row, cells)}
        for row, document in enumerate(content)
    )
    helpers.bulk(client, actions, chunk_size=2000)
    client.indices.forcemerge(index=name, max_num_segments=1)
    client.indices.refresh(index=name)


def check_documents(
    client: Elasticsearch,
    name: str,
    content: list[ItemDocument],
    genres: tuple[str, ...],
    checked: Int64Array,
    cells: ItemCells | None = None,
) -> None:
    """Reads documents back, and counts all, and the items of every genre by the query that recall uses.

    Args:
        client, name: of the index.
        content: all that was loaded.
        genres: of the data set.
        checked: rows of `content` that are read back: all, or a sample.
        cells: those that the index was created with.

    Raises:
        LoadError: naming the first item or genre that differs.
    """
    rows, foreign = {content[row]["itemid"]: row for row in checked.tolist()}, []
    for hit in _documents(client, name, None if len(rows) == len(content) else list(rows)):  # compared as they come
        row = rows.pop(hit["_id"], None)
        if row is None:
            foreign.append(hit["_id"])
        elif not _is_stored(loaded := source(content, row, cells), hit["_source"]):
            raise LoadError(f"Elasticsearch holds {hit['_source']} for item {hit['_id']}, but {loaded} was loaded.")
    if rows:
        raise LoadError(f"Elasticsearch holds None for item {next(iter(rows))}, but it was loaded.")
    if foreign:
        raise LoadError(f"Elasticsearch holds items that were not loaded: {sorted(foreign)[:5]}.")
    if (found := client.count(index=name)["count"]) != len(content):
        raise LoadError(f"Elasticsearch holds {found} items, but {len(content)} were loaded.")
    for genre in genres:
        expected = sum(genre in document["genres"] for document in content)
        counted = client.count(index=name, query={"terms": {ES_GENRES: [genre]}})["count"]
        if counted != expected:
            raise LoadError(f"Elasticsearch counts {counted} items of the genre {genre}, but {expected} were loaded.")


def _documents(client: Elasticsearch, name: str, itemids: list[str] | None) -> Iterator[dict[str, Any]]:
    """The documents of the index as Elasticsearch holds them: all of them, or those of some items that are there."""
    if itemids is None:
        yield from helpers.scan(client, index=name, size=DOCUMENTS_AT_A_TIME)
        return
    for start in range(0, len(itemids), DOCUMENTS_AT_A_TIME):
        found = client.mget(index=name, ids=itemids[start : start + DOCUMENTS_AT_A_TIME])
        yield from (document for document in found["docs"] if document.get("found"))


def _is_stored(loaded: dict[str, Any], stored: dict[str, Any]) -> bool:
    """Whether Elasticsearch holds the document, its arrays compared in the types in which they were loaded."""
    if _but_arrays(stored) != _but_arrays(loaded) or stored.keys() != loaded.keys():
        return False
    if not np.array_equal(np.array(_vector_of(stored), np.float32), np.array(_vector_of(loaded), np.float32)):
        return False
    similar, expected = stored[ES_SIMILAR], loaded[ES_SIMILAR]
    return similar.keys() == expected.keys() and all(
        np.array_equal(np.array(similar[name], values.dtype), values) for name, values in expected.items()
    )


def _but_arrays(document: dict[str, Any]) -> dict[str, Any]:
    arrays = (ES_VECTOR, ES_UNSEARCHED_VECTOR, ES_SIMILAR)
    return {field: value for field, value in document.items() if field not in arrays}


def _vector_of(document: dict[str, Any]) -> list[float] | Float32Array:
    """A stored item's vector, whether a search looks at it or not."""
    vector: list[float] | Float32Array = document.get(ES_VECTOR, document.get(ES_UNSEARCHED_VECTOR, []))
    return vector


def check_nearest(
    caller: ElasticsearchCaller,
    name: str,
    content: list[ItemDocument],
    users: list[UserRecall],
    least: float = LEAST_OVERLAP,
) -> float:
    """Compares the top RECALL_SIZE of some users, as Elasticsearch finds it, with the exact one.

    Args:
        caller: searches as the server does.
        name: of the index.
        content: what it holds.
        users: who have vectors; where the search is approximate, others than its cells were fitted to.
        least: the share that is enough.

    Returns:
        The share of the exact one that was found, averaged over the users.

    Raises:
        LoadError: the share is below the least, or a score is not the inner product.
    """
    vectors = np.array([document["vector"] for document in content], np.float32)
    ids = np.array([int(document["itemid"]) for document in content])
    overlaps = []
    for user in users:
        hits = caller.search(UserRecall((), user.vector, user.seen), name)
        products = vectors @ np.array(user.vector, np.float32)
        rows = np.searchsorted(ids, hits.itemids)
        if not np.allclose(hits.scores, products[rows], rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE):
            raise LoadError(f"Elasticsearch's scores in {name} are not the inner products of the vectors loaded.")
        places = np.unique(np.searchsorted(ids, np.array(user.seen, np.int64)).clip(max=len(ids) - 1))
        seen = places[np.isin(ids[places], user.seen)]
        products[seen] = -np.inf
        size = min(RECALL_SIZE, len(ids) - len(seen))
        exact = np.argpartition(-products, size - 1)[:size] if size else rows[:0]
        overlaps.append(len(np.intersect1d(exact, rows)) / size if size else 1.0)
    overlap = float(np.mean(overlaps)) if overlaps else 1.0
    if overlap < least:
        raise LoadError(
            f"the approximate top {RECALL_SIZE} of {len(users)} users hold {overlap:.3f} of the exact one, less than "
            f"{least}: set EXACT_SEARCH_UP_TO to at least {len(content)}, which searches all items exactly."
        )
    return overlap


def switch_alias(client: Elasticsearch, name: str) -> None:
    """Points the alias at the new index in one step, and deletes older ones.

    The index that the alias pointed at stays until the next load, since a request may still be searching it.
    """
    before = list(client.indices.get_alias(index=f"{ES_ALIAS}-*", allow_no_indices=True))
    aliased = set(client.indices.get_alias(name=ES_ALIAS, ignore_unavailable=True)) if _has_alias(client) else set()
    client.indices.update_aliases(
        actions=[{"remove": {"index": old, "alias": ES_ALIAS}} for old in sorted(aliased)]
        + [{"add": {"index": name, "alias": ES_ALIAS}}]
    )
    for old in set(before) - aliased - {name}:
        client.indices.delete(index=old)


def _has_alias(client: Elasticsearch) -> bool:
    return bool(client.indices.exists_alias(name=ES_ALIAS))
