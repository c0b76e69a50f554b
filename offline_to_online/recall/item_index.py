"""An Elasticsearch index of items: created, filled, checked against what was loaded, and put behind the alias."""

from collections.abc import Iterator
from typing import Any, TypedDict

import numpy as np
from elasticsearch import Elasticsearch, helpers

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.limits import EXACT_SEARCH_UP_TO, RECALL_SIZE
from data_exchange_center.serving_names import ES_ALIAS, ES_GENRES, ES_ITEMID, ES_POPULARITY, ES_VECTOR
from offline_to_online.loader import LoadError
from online.callers.es_caller import ElasticsearchCaller
from online.callers.types import UserRecall

LEAST_OVERLAP = 0.95  # of the approximate top 200 with the exact one, on average
SCORE_TOLERANCE = 1e-3  # relative; Elasticsearch computes in float32
DOCUMENTS_AT_A_TIME = 2000

ITEM_READS = (catalogue.ITEMS, catalogue.POPULAR_ITEMS, catalogue.SEQUENCE_ITEM_VECTORS)


class ItemDocument(TypedDict):
    """One item as Elasticsearch stores it; the fields are named in serving_names.py."""

    itemid: str
    genres: list[str]
    vector: list[float]
    popularity: int  # positives in the training rows


def item_documents() -> list[ItemDocument]:
    """One document an item, by itemid."""
    items, popular = catalogue.ITEMS.load(), catalogue.POPULAR_ITEMS.load()
    vectors = catalogue.SEQUENCE_ITEM_VECTORS.load()[items[Column.ITEM_INDEX].to_numpy()]
    positives = dict(zip(popular[Column.ITEMID].to_pylist(), popular[Column.POSITIVES].to_pylist(), strict=True))
    return [
        ItemDocument(itemid=str(itemid), genres=genres, vector=vector, popularity=positives[itemid])
        for itemid, genres, vector in zip(
            items[Column.ITEMID].to_pylist(), items[Column.GENRES].to_pylist(), vectors.tolist(), strict=True
        )
    ]


def stored_vectors(client: Elasticsearch, itemids: Int64Array, dimensions: int) -> Float32Array:
    """[items, dimensions] the vectors of these items behind the alias; NaN for an item that is not there."""
    vectors = np.full((len(itemids), dimensions), np.nan, np.float32)
    for hit in helpers.scan(client, index=ES_ALIAS, size=2000, query={"_source": [ES_VECTOR]}):
        place = np.searchsorted(itemids, int(hit["_id"]))
        if place < len(itemids) and itemids[place] == int(hit["_id"]):
            vectors[place] = hit["_source"][ES_VECTOR]
    return vectors


def vector_index(items: int) -> dict[str, Any]:
    """How Elasticsearch looks for neighbours. 65 dimensions need no quantisation: scores stay the model's own.

    Up to EXACT_SEARCH_UP_TO items it compares with every vector, which is exact: 388,300 items take 16 ms a search and
    13 s to load (2 cores). A graph does badly on inner products, which favour long vectors over near ones: of 38,830
    items even a wide graph (m 32, ef_construction 400, 10,000 candidates) found 0.65 of the true top 200. So a graph is
    left to catalogues that are too large for the exact search, and the loader refuses one that misses too much.
    """
    return {"type": "flat"} if items <= EXACT_SEARCH_UP_TO else {"type": "hnsw", "m": 32, "ef_construction": 400}


def create_index(client: Elasticsearch, name: str, dimensions: int, items: int, replicas: int = 0) -> None:
    """An empty index with explicit mappings: a field that is not declared is an error, not a guess.

    It is there once all its copies have a node, the first and the replicas.
    """
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
        mappings={
            "dynamic": "strict",
            "properties": {
                ES_ITEMID: {"type": "keyword"},
                ES_GENRES: {"type": "keyword"},
                ES_POPULARITY: {"type": "integer"},
                ES_VECTOR: {
                    "type": "dense_vector",
                    "dims": dimensions,
                    "similarity": "max_inner_product",
                    "index_options": vector_index(items),
                },
            },
        },
    )


def fill_index(client: Elasticsearch, name: str, content: list[ItemDocument]) -> None:
    """Writes all documents in bulk, as one segment."""
    actions = ({"_index": name, "_id": document["itemid"], "_source": document} for document in content)
    helpers.bulk(client, actions, chunk_size=2000)
    client.indices.forcemerge(index=name, max_num_segments=1)
    client.indices.refresh(index=name)


def check_documents(
    client: Elasticsearch, name: str, content: list[ItemDocument], genres: tuple[str, ...], checked: Int64Array
) -> None:
    """Reads documents back, and counts all, and the items of every genre by the query that recall uses.

    Args:
        client, name: of the index.
        content: all that was loaded.
        genres: of the data set.
        checked: rows of `content` that are read back: all, or a sample.

    Raises:
        LoadError: naming the first item or genre that differs.
    """
    rows, foreign = {content[row]["itemid"]: row for row in checked.tolist()}, []
    for hit in _documents(client, name, None if len(rows) == len(content) else list(rows)):  # compared as they come
        row = rows.pop(hit["_id"], None)
        if row is None:
            foreign.append(hit["_id"])
        elif not _is_stored(content[row], hit["_source"]):
            loaded = content[row]
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


def _is_stored(document: ItemDocument, stored: dict[str, Any] | None) -> bool:
    """Whether Elasticsearch holds the document, the vector compared in the float32 in which it is indexed."""
    if stored is None or {**stored, ES_VECTOR: None} != {**document, ES_VECTOR: None}:
        return False
    found = np.array(stored.get(ES_VECTOR, []), np.float32)
    return np.array_equal(found, np.array(document["vector"], np.float32))


def check_nearest(
    caller: ElasticsearchCaller, name: str, content: list[ItemDocument], users: list[UserRecall]
) -> float:
    """Compares the approximate top RECALL_SIZE of some users with the exact one.

    Returns:
        The share of the exact one that was found, averaged over the users.

    Raises:
        LoadError: the share is below LEAST_OVERLAP, or a score is not the inner product.
    """
    vectors = np.array([document["vector"] for document in content], np.float32)
    ids = np.array([int(document["itemid"]) for document in content])
    overlaps = []
    for user in users:
        hits = caller.search(UserRecall((), user.vector, user.seen), len(content), name)
        products = vectors @ np.array(user.vector, np.float32)
        rows = np.searchsorted(ids, hits.itemids)
        if not np.allclose(hits.scores, products[rows], rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE):
            raise LoadError(f"Elasticsearch's scores in {name} are not the inner products of the vectors loaded.")
        products[np.isin(ids, user.seen)] = -np.inf
        exact = ids[np.argsort(-products, kind="stable")[: min(RECALL_SIZE, int(np.isfinite(products).sum()))]]
        overlaps.append(len(np.intersect1d(exact, ids[rows])) / max(len(exact), 1))
    overlap = float(np.mean(overlaps)) if overlaps else 1.0
    if overlap < LEAST_OVERLAP:
        raise LoadError(
            f"the approximate top {RECALL_SIZE} of {len(users)} users hold {overlap:.3f} of the exact one, less than "
            f"{LEAST_OVERLAP}: raise NUM_CANDIDATES in online/callers/es_caller.py."
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
