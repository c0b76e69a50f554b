"""Elasticsearch: term and vector recall in one request, its scores translated to the inner product's scale."""

from typing import Any

import numpy as np
from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch, OrjsonSerializer

from data_exchange_center.elasticsearch_scores import TERM_BOOST, VECTOR_BOOST, recall_scores
from data_exchange_center.limits import EXACT_SEARCH_UP_TO, RECALL_SIZE, VECTOR_RECALL_SIZE
from data_exchange_center.serving_names import ES_ALIAS, ES_GENRES, ES_ITEMID, ES_VECTOR, TERM_QUERY, VECTOR_QUERY
from data_exchange_center.settings import Settings
from online.callers.types import Candidates, ServiceUnavailable, UserRecall

NUM_CANDIDATES = 1000  # the search width in a graph of vectors, near exact; without a graph it changes nothing
FAULTS = (ApiError, TransportError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
# Elasticsearch returns only what is read here, which takes a quarter of the time of whole responses.
FILTER_PATH = f"hits.hits._score,hits.hits.fields.{ES_ITEMID},hits.hits.matched_queries"


def elasticsearch_client(settings: Settings, timeout: float) -> Elasticsearch:
    """A client with its pool of connections; it does not retry, since a late response is of no use to a request."""
    return Elasticsearch(
        settings.es_url,
        basic_auth=(settings.es_user, settings.es_password.get_secret_value()),
        request_timeout=timeout,
        max_retries=0,
        retry_on_timeout=False,
        serializer=OrjsonSerializer(),  # reads 200 hits in a third of the default's time
    )


def recall_query(user: UserRecall, items: int) -> dict[str, Any]:
    """The body of the search: the terms query and the kNN query, both without the items that the user has seen.

    A user without a vector gets the terms query alone, and one without terms the kNN query alone.

    Args:
        user: has a vector, or terms, or both.
        items: the number of items in the index.
    """
    unseen = {"bool": {"must_not": [{"terms": {ES_ITEMID: [str(item) for item in user.seen]}}]}} if user.seen else None
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
        if unseen:
            body["knn"]["filter"] = unseen
    if user.terms:
        liked = {"terms": {ES_GENRES: list(user.terms), "boost": TERM_BOOST, "_name": TERM_QUERY}}
        body["query"] = {"bool": {"must": [liked], **(unseen["bool"] if unseen else {})}}
    return body


class ElasticsearchCaller:
    """Searches what offline_to_online/recall/s2_item_to_es.py wrote."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """`timeout` is in seconds, for the whole search."""
        self._client = elasticsearch_client(settings, timeout)

    def ping(self) -> None:
        """Raises ServiceUnavailable unless there is an index behind the alias."""
        try:
            if not self._client.indices.exists_alias(name=ES_ALIAS):
                raise ValueError(f"no index behind {ES_ALIAS}")
        except FAULTS as error:
            raise ServiceUnavailable("elasticsearch", error) from error

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def recall(self, user: UserRecall, items: int, index: str = ES_ALIAS) -> Candidates:
        """At most RECALL_SIZE candidates, in Elasticsearch's order: by descending `_score`, then most popular first.

        Args:
            user: as for `recall_query`.
            items: the number of items in the index.
            index: an index, or the alias of the served one.

        Raises:
            ServiceUnavailable: Elasticsearch does not respond in time, or responds with an error.
        """
        try:
            response = self._client.search(index=index, filter_path=FILTER_PATH, **recall_query(user, items))
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
        except FAULTS as error:
            raise ServiceUnavailable("elasticsearch", error) from error
