"""Elasticsearch: term and vector recall in one request, its scores translated to the inner product's scale."""

from typing import Any

import numpy as np
from elastic_transport import TransportError
from elasticsearch import ApiError, BadRequestError, Elasticsearch, OrjsonSerializer

from data_exchange_center.elasticsearch_scores import TERM_BOOST, VECTOR_BOOST, recall_scores
from data_exchange_center.limits import EXACT_SEARCH_UP_TO, RECALL_SIZE, VECTOR_RECALL_SIZE
from data_exchange_center.serving_names import (
    ES_ALIAS,
    ES_GENRES,
    ES_INDEX_OF_LOAD,
    ES_ITEMID,
    ES_VECTOR,
    TERM_QUERY,
    VECTOR_QUERY,
)
from data_exchange_center.settings import Settings
from online.callers.types import Candidates, Expected, ServiceUnavailable, StoreFault, UserRecall

NUM_CANDIDATES = 1000  # the search width in a graph of vectors, near exact; without a graph it changes nothing
FAULTS = (ApiError, TransportError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
# Elasticsearch returns only what is read here, which takes a quarter of the time of whole responses.
FILTER_PATH = f"hits.hits._score,hits.hits.fields.{ES_ITEMID},hits.hits.matched_queries"


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


def recall_query(user: UserRecall, items: int, prefix: str = "") -> dict[str, Any]:
    """The body of the search: the terms query and the kNN query, both without the items that the user has seen.

    A user without a vector gets the terms query alone, and one without terms the kNN query alone.

    Args:
        user: has a vector, or terms, or both.
        items: the number of items in the index.
        prefix: with which the index's name must begin; an index of another name has no hits.
    """
    # Elasticsearch tells by the name alone, once for the index: no document is compared.
    conditions: dict[str, Any] = {"filter": [{"prefix": {"_index": prefix}}]} if prefix else {}
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
            "num_candidates": RECALL_SIZE if items <= EXACT_SEARCH_UP_TO else NUM_CANDIDATES,
            "boost": VECTOR_BOOST,
            "_name": VECTOR_QUERY,
        }
        if conditions:
            body["knn"]["filter"] = {"bool": conditions}
    if user.terms:
        liked = {"terms": {ES_GENRES: list(user.terms), "boost": TERM_BOOST, "_name": TERM_QUERY}}
        body["query"] = {"bool": {"must": [liked], **conditions}}
    return body


class ElasticsearchCaller:
    """Searches what offline_to_online/recall/s2_item_to_es.py wrote."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """`timeout` is in seconds, for the whole search."""
        self._client = elasticsearch_client(settings, timeout)

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
        found = self.search(user, items, prefix=ES_INDEX_OF_LOAD.format(load))
        if not len(found) and user.vector and len(user.seen) < items:
            raise StoreFault(
                "elasticsearch", f"it found none of {items} items of the load {load} behind {ES_ALIAS}: run `make load`"
            )
        return found

    def search(self, user: UserRecall, items: int, index: str = ES_ALIAS, prefix: str = "") -> Candidates:
        """At most RECALL_SIZE candidates, in Elasticsearch's order: by descending `_score`, then most popular first.

        Args:
            user, items, prefix: as for `recall_query`.
            index: an index, or the alias of the served one.

        Raises:
            ServiceUnavailable: Elasticsearch does not respond in time, or responds with an error.
        """
        try:
            body = recall_query(user, items, prefix)
            # A node of a cluster that has a copy of the index searches it itself, rather than ask another.
            response = self._client.search(index=index, filter_path=FILTER_PATH, preference="_local", **body)
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
        except BadRequestError as error:  # of this user's values: the service responds
            raise StoreFault("elasticsearch", error) from error
        except FAULTS as error:
            raise ServiceUnavailable("elasticsearch", error) from error
