"""Elasticsearch: term and vector recall in one request."""

from typing import Any

import numpy as np
from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch, OrjsonSerializer

from data_exchange_center.scoring import RECALL_SIZE, TERM_BOOST, VECTOR_BOOST, VECTOR_RECALL_SIZE
from data_exchange_center.serving_names import (
    ES_ALIAS,
    ES_EXACT_UP_TO,
    ES_GENRES,
    ES_ITEMID,
    ES_VECTOR,
    TERM_QUERY,
    VECTOR_QUERY,
)
from data_exchange_center.settings import Settings
from online.callers.types import Candidates, ServiceUnavailable, UserRecall

NUM_CANDIDATES = 1000  # the search width in a graph of vectors, near exact; without a graph it changes nothing
FAULTS = (ApiError, TransportError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
# Only what is read comes back: a quarter of the time of whole sources.
FILTER_PATH = f"hits.hits._score,hits.hits.fields.{ES_ITEMID},hits.hits.matched_queries"


def elasticsearch_client(settings: Settings, timeout: float) -> Elasticsearch:
    """A client with its pool of connections; no retries, since a late answer is of no use to a request."""
    return Elasticsearch(
        settings.es_url,
        basic_auth=(settings.es_user, settings.es_password.get_secret_value()),
        request_timeout=timeout,
        max_retries=0,
        retry_on_timeout=False,
        serializer=OrjsonSerializer(),  # 200 hits in a third of the time
    )


def recall_query(user: UserRecall, items: int) -> dict[str, Any]:
    """The body of the search: terms and kNN, both without the items that the user has seen.

    A user without vector gets terms alone, one without terms kNN alone. `items` is the catalogue's size.
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
            "num_candidates": RECALL_SIZE if items <= ES_EXACT_UP_TO else NUM_CANDIDATES,
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
        """At most RECALL_SIZE candidates, best first, of a catalogue of so many items.

        Raises:
            ServiceUnavailable: Elasticsearch does not answer in time or answers with an error.
        """
        try:
            answer = self._client.search(index=index, filter_path=FILTER_PATH, **recall_query(user, items))
            hits = answer.body.get("hits", {}).get("hits", [])
            return Candidates(
                itemids=np.array([int(hit["fields"][ES_ITEMID][0]) for hit in hits], np.int64),
                es_scores=np.array([hit["_score"] for hit in hits], np.float64),
                by_term=np.array([TERM_QUERY in hit["matched_queries"] for hit in hits], np.bool_),
                by_vector=np.array([VECTOR_QUERY in hit["matched_queries"] for hit in hits], np.bool_),
            )
        except FAULTS as error:
            raise ServiceUnavailable("elasticsearch", error) from error
