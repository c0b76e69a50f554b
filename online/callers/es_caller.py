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
    ES_YEAR,
    TERM_QUERY,
    VECTOR_QUERY,
)
from data_exchange_center.settings import Settings
from data_exchange_center.vector_cells import VectorCells
from online.callers.types import (
    EVERYTHING,
    NO_CANDIDATES,
    Candidates,
    Expected,
    ItemFilter,
    ServiceUnavailable,
    StoreFault,
    UserRecall,
)
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


def recall_query(
    user: UserRecall, index: SearchedIndex, within: ItemFilter = EVERYTHING, widely: bool = False
) -> dict[str, Any]:
    """The body of the search: the terms query and the kNN query, both without the items that the user has seen.

    A user without a vector gets the terms query alone, and one without terms the kNN query alone.

    Args:
        user: has a vector, or terms, or both.
        index: is searched as it says; any other index, as after a switch of the alias, has no hits.
        within: which items either query may find: it is part of both, and no item is dropped afterwards.
        widely: whether to find all that there is, up to RECALL_SIZE: in no cells, of any genre.
    """
    conditions = _conditions(user, index, within)
    body: dict[str, Any] = {
        "size": RECALL_SIZE,
        "_source": False,
        "stored_fields": "_none_",
        "docvalue_fields": [ES_ITEMID],
        "track_total_hits": False,
    }
    if user.vector:
        cells = [] if widely else _cell_condition(user, index.cells)
        body["knn"] = {
            "field": ES_VECTOR,
            "query_vector": list(user.vector),
            "k": VECTOR_RECALL_SIZE if user.terms and not widely else RECALL_SIZE,
            "num_candidates": RECALL_SIZE,  # the vectors are compared one by one: more candidates find nothing better
            "filter": {"bool": {**conditions, "filter": [*conditions["filter"], *cells]}},
            "boost": VECTOR_BOOST,
            "_name": VECTOR_QUERY,
        }
    if user.terms:
        liked = {"terms": {ES_GENRES: list(user.terms), "boost": TERM_BOOST, "_name": TERM_QUERY}}
        body["query"] = {"bool": {"should" if widely else "must": [liked], **conditions}}
    elif widely:
        body["query"] = {"bool": conditions}  # which scores 0, so that the most popular come first
    return body


def _conditions(user: UserRecall, index: SearchedIndex, within: ItemFilter) -> dict[str, Any]:
    """What holds for every hit, as the clauses of a bool query."""
    # Elasticsearch tells by the name alone, once for the index: no document is compared.
    filters: list[dict[str, Any]] = [{"term": {"_index": index.name}}]
    if within.genres:
        filters.append({"terms": {ES_GENRES: list(within.genres)}})
    bounds = {"gte": within.year_from, "lte": within.year_to}
    if years := {bound: year for bound, year in bounds.items() if year is not None}:
        filters.append({"range": {ES_YEAR: years}})
    left_out = []
    if user.seen or within.left_out:
        left_out.append({"terms": {ES_ITEMID: [str(item) for item in (*user.seen, *within.left_out)]}})
    if within.genres_out:
        left_out.append({"terms": {ES_GENRES: list(within.genres_out)}})
    return {"filter": filters, **({"must_not": left_out} if left_out else {})}


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

    def recall(
        self, user: UserRecall, possible: int, load: str, within: ItemFilter = EVERYTHING, index: str = ""
    ) -> Candidates:
        """As `search`, in the served index or the one named, which must be of the load with this digest.

        Where a filter leaves the list short of what is possible, the search is made again, widely: the cells of an
        approximate search hold few items of a narrow filter, and liked genres may be those that it keeps out.

        Raises:
            ServiceUnavailable: as `search` does.
            StoreFault: as `search` does, and where nothing is found although something is possible: the index is
                empty, or of another load.
        """
        name, prefix = index or ES_ALIAS, ES_INDEX_OF_LOAD.format(load)
        found = self.search(user, name, prefix, within)
        if within.narrows and len(found) < min(possible, RECALL_SIZE):
            found = self.search(user, name, prefix, within, widely=True)
        if not len(found) and possible > 0 and (user.vector or within.narrows):
            raise StoreFault(
                "elasticsearch",
                f"it found none of {possible} items of the load {load} behind {name}: run `make load`",
            )
        return found

    def search(
        self,
        user: UserRecall,
        index: str = ES_ALIAS,
        prefix: str = "",
        within: ItemFilter = EVERYTHING,
        widely: bool = False,
    ) -> Candidates:
        """At most RECALL_SIZE candidates, in Elasticsearch's order: by descending `_score`, then most popular first.

        Whether it searches exactly or approximately follows from the index. Each search names the index that it is
        meant for, so that nothing is found after a switch of the alias: then the index is looked up again.

        Args:
            user: as for `recall_query`.
            index: an index, or the alias of the served one.
            prefix: with which the index's name must begin; an index of another name has no hits.
            within, widely: as for `recall_query`.

        Raises:
            ServiceUnavailable: Elasticsearch does not respond in time, or responds with an error.
        """
        try:
            known = self._searched.get(index)
            found = NO_CANDIDATES
            if known is not None and known.name.startswith(prefix):
                found = self._candidates(index, recall_query(user, known, within, widely))
            if not len(found):
                present = self._present(index, known)
                self._searched[index] = present
                if present is not known and present.name.startswith(prefix):
                    found = self._candidates(index, recall_query(user, present, within, widely))
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

    def _candidates(self, index: str, query: dict[str, Any]) -> Candidates:
        """The hits of a query."""
        headers = self._headers()
        client = self._client.options(headers=headers) if headers else self._client
        # A node of a cluster that has a copy of the index searches it itself, rather than ask another.
        response = client.search(index=index, filter_path=FILTER_PATH, preference="_local", **query)
        hits = response.body.get("hits", {}).get("hits", [])
        found_by = [hit.get("matched_queries", ()) for hit in hits]  # a wide search finds some by neither query
        by_term = np.array([TERM_QUERY in queries for queries in found_by], np.bool_)
        by_vector = np.array([VECTOR_QUERY in queries for queries in found_by], np.bool_)
        es_scores = np.array([hit["_score"] for hit in hits], np.float64)
        return Candidates(
            itemids=np.array([int(hit["fields"][ES_ITEMID][0]) for hit in hits], np.int64),
            scores=recall_scores(es_scores, by_term, by_vector),
            by_term=by_term,
            by_vector=by_vector,
        )
