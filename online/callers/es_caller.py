"""Elasticsearch: term and vector recall in one request, its scores translated to the inner product's scale."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from elastic_transport import TransportError
from elasticsearch import ApiError, BadRequestError, Elasticsearch, OrjsonSerializer

from data_exchange_center.elasticsearch_scores import TERM_BOOST, VECTOR_BOOST, recall_scores
from data_exchange_center.limits import RECALL_SIZE, VECTOR_RECALL_SIZE
from data_exchange_center.serving_names import (
    ES_ALIAS,
    ES_CELLS,
    ES_CENTROIDS,
    ES_GENRES,
    ES_INDEX_OF_LOAD,
    ES_ITEMID,
    ES_VECTOR,
    TERM_QUERY,
    VECTOR_QUERY,
)
from data_exchange_center.settings import Settings
from data_exchange_center.vector_cells import VectorCells
from online.callers.types import Candidates, Expected, ServiceUnavailable, StoreFault, UserRecall
from online.tracing import Headers

FAULTS = (ApiError, TransportError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
# Elasticsearch returns only what is read here, which takes a quarter of the time of whole responses.
FILTER_PATH = f"hits.hits._score,hits.hits.fields.{ES_ITEMID},hits.hits.matched_queries"


@dataclass(frozen=True)
class SearchedIndex:
    """The index behind a name or an alias, and how it is searched.

    Attributes:
        name: the index's own.
        cells: that a search by vector is confined to; None where it compares the vector with every item's.
    """

    name: str
    cells: VectorCells | None = None


def elasticsearch_client(settings: Settings, timeout: float) -> Elasticsearch:
    """A client with its pool of connections.

    It does not retry, since a late response is of no use to a request; of several nodes it asks the next where one
    refuses or ends the connection, which takes no time.
    """
    urls = settings.es_urls
    return Elasticsearch(
        urls,
        basic_auth=(settings.es_user, settings.es_password.get_secret_value()),
        request_timeout=timeout,
        max_retries=len(urls) - 1,
        retry_on_timeout=False,
        serializer=OrjsonSerializer(),  # reads 200 hits in a third of the default's time
    )


def recall_query(user: UserRecall, index: SearchedIndex) -> dict[str, Any]:
    """The body of the search: the terms query and the kNN query, both without the items that the user has seen.

    A user without a vector gets the terms query alone, and one without terms the kNN query alone.

    Args:
        user: has a vector, or terms, or both.
        index: is searched as it says; any other index, as after a switch of the alias, has no hits.
    """
    # Elasticsearch tells by the name alone, once for the index: no document is compared.
    conditions: dict[str, Any] = {"filter": [{"term": {"_index": index.name}}]}
    if user.seen:
        conditions["must_not"] = [{"terms": {ES_ITEMID: [str(item) for item in user.seen]}}]
    body: dict[str, Any] = {
        "size": RECALL_SIZE,
        "_source": False,
        "stored_fields": "_none_",
        "docvalue_fields": [ES_ITEMID],
        "track_total_hits": False,
    }
    if user.vector:
        body["knn"] = {
            "field": ES_VECTOR,
            "query_vector": list(user.vector),
            "k": VECTOR_RECALL_SIZE if user.terms else RECALL_SIZE,
            "num_candidates": RECALL_SIZE,  # the vectors are compared one by one: more candidates find nothing better
            "filter": {"bool": {**conditions, "filter": [*conditions["filter"], *_cell_condition(user, index.cells)]}},
            "boost": VECTOR_BOOST,
            "_name": VECTOR_QUERY,
        }
    if user.terms:
        liked = {"terms": {ES_GENRES: list(user.terms), "boost": TERM_BOOST, "_name": TERM_QUERY}}
        body["query"] = {"bool": {"must": [liked], **conditions}}
    return body


def _cell_condition(user: UserRecall, cells: VectorCells | None) -> list[dict[str, Any]]:
    """That an item is in one of the cells nearest to the user; Elasticsearch refuses vectors of another width."""
    if cells is None or len(user.vector) != cells.dimensions:
        return []
    return [{"terms": {ES_CELLS: cells.nearest(np.array(user.vector, np.float32))}}]


class ElasticsearchCaller:
    """Searches what offline_to_online/recall/s2_item_to_es.py wrote."""

    def __init__(self, settings: Settings, timeout: float, headers: Headers = dict) -> None:
        """`timeout` is in seconds, for the whole search; `headers` are what each search carries beside its own."""
        self._client, self._headers = elasticsearch_client(settings, timeout), headers
        self._searched: dict[str, SearchedIndex] = {}  # by the name or alias by which it was asked for

    def ping(self, expected: Expected) -> None:
        """Raises ServiceUnavailable unless all items of the load that is expected are behind the alias."""
        prefix = ES_INDEX_OF_LOAD.format(expected.load_digest)
        try:
            found = self._client.count(index=ES_ALIAS, query={"prefix": {"_index": prefix}}).body["count"]
        except FAULTS as error:
            raise ServiceUnavailable("elasticsearch", error) from error
        if found != expected.items:
            what = f"{found} items of the load {expected.load_digest} behind {ES_ALIAS}, which has {expected.items}"
            raise StoreFault("elasticsearch", f"it holds {what}: run `make load`")

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def recall(self, user: UserRecall, items: int, load: str) -> Candidates:
        """As `search`, in the served index, which must be of the load with this digest.

        Raises:
            ServiceUnavailable: as `search` does.
            StoreFault: as `search` does, and where nothing is found although the user has not seen all items:
                the index is empty, or of another load.
        """
        found = self.search(user, prefix=ES_INDEX_OF_LOAD.format(load))
        if not len(found) and user.vector and len(user.seen) < items:
            raise StoreFault(
                "elasticsearch", f"it found none of {items} items of the load {load} behind {ES_ALIAS}: run `make load`"
            )
        return found

    def search(self, user: UserRecall, index: str = ES_ALIAS, prefix: str = "") -> Candidates:
        """At most RECALL_SIZE candidates, in Elasticsearch's order: by descending `_score`, then most popular first.

        Whether it searches exactly or approximately follows from the index. Each search names the index that it is
        meant for, so that nothing is found after a switch of the alias: then the index is looked up again.

        Args:
            user: as for `recall_query`.
            index: an index, or the alias of the served one.
            prefix: with which the index's name must begin; an index of another name has no hits.

        Raises:
            ServiceUnavailable: Elasticsearch does not respond in time, or responds with an error.
        """
        try:
            known = self._searched.get(index)
            found = _no_candidates() if known is None else self._candidates(user, index, known, prefix)
            if not len(found):
                present = self._present(index, known)
                if present is not known:
                    self._searched[index] = present
                    found = self._candidates(user, index, present, prefix)
            return found
        except BadRequestError as error:  # of this user's values: the service responds
            raise StoreFault("elasticsearch", error) from error
        except FAULTS as error:
            raise ServiceUnavailable("elasticsearch", error) from error

    def _present(self, index: str, known: SearchedIndex | None) -> SearchedIndex:
        """The index that is behind a name or an alias now; the one known where that has not changed."""
        (name,) = self._client.indices.get_alias(index=index).body
        if known is not None and known.name == name:
            return known
        mappings = self._client.indices.get_mapping(index=name).body[name]["mappings"]
        centroids = mappings.get("_meta", {}).get(ES_CENTROIDS)
        dimensions = mappings["properties"][ES_VECTOR]["dims"]
        return SearchedIndex(name, None if centroids is None else VectorCells.decoded(centroids, dimensions))

    def _candidates(self, user: UserRecall, index: str, searched: SearchedIndex, prefix: str) -> Candidates:
        """What `search` returns of the index that is expected behind `index`; nothing where another one is."""
        if not searched.name.startswith(prefix):
            return _no_candidates()
        headers = self._headers()
        client = self._client.options(headers=headers) if headers else self._client
        # A node of a cluster that has a copy of the index searches it itself, rather than ask another.
        response = client.search(
            index=index, filter_path=FILTER_PATH, preference="_local", **recall_query(user, searched)
        )
        hits = response.body.get("hits", {}).get("hits", [])
        by_term = np.array([TERM_QUERY in hit["matched_queries"] for hit in hits], np.bool_)
        by_vector = np.array([VECTOR_QUERY in hit["matched_queries"] for hit in hits], np.bool_)
        es_scores = np.array([hit["_score"] for hit in hits], np.float64)
        return Candidates(
            itemids=np.array([int(hit["fields"][ES_ITEMID][0]) for hit in hits], np.int64),
            scores=recall_scores(es_scores, by_term, by_vector),
            by_term=by_term,
            by_vector=by_vector,
        )


def _no_candidates() -> Candidates:
    nothing, none = np.empty(0, np.float64), np.empty(0, np.bool_)
    return Candidates(nothing.astype(np.int64), nothing, none, none)
