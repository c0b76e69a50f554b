"""Loads each item's genres, vector and neighbours into a new Elasticsearch index, checks it, and switches the alias.

    python -m offline_to_online.recall.s2_item_to_es

The similarity is `max_inner_product`, because the model's score is the inner product; the original indexes such vectors
as cosine and loses half of what they recall. Up to EXACT_SEARCH_UP_TO items a search compares the user's vector with
every item's; in a larger catalogue with those of the cells nearest to the user (item_cells.py). Documents are sorted by
popularity, so that hits that tie, as all hits of the terms query do, come most popular first.
"""

import time

import numpy as np
from elastic_transport import TransportError
from elasticsearch import ApiError

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.limits import RECALL_SIZE
from data_exchange_center.serving_load import load_digest
from data_exchange_center.serving_names import ES_INDEX_OF_LOAD
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.vector_cells import CELLS_OF_A_SEARCH
from offline_to_online.loader import LOADER_TIMEOUT, how_many_checked, rows_to_check
from offline_to_online.recall.item_cells import MOST_USERS, ItemCells, fit_cells
from offline_to_online.recall.item_index import (
    ITEM_READS,
    ItemDocument,
    check_documents,
    check_nearest,
    create_index,
    fill_index,
    item_documents,
    switch_alias,
)
from offline_to_online.recall.item_neighbours import check_neighbours
from offline_to_online.recall.user_recall import SAMPLED_USERS_READS, sampled_users, users_with_rows
from online.callers.es_caller import ElasticsearchCaller, elasticsearch_client
from online.callers.es_similar_caller import SimilarItemsCaller
from online.callers.types import ServiceUnavailable, UserRecall

READS = (*ITEM_READS, *SAMPLED_USERS_READS)
WRITES: Artefacts = ()

SAMPLED_USERS = 200
SAMPLED_ITEMS = 200  # whose neighbours are asked for as the server does; every document is read back anyway


def cells_of(content: list[ItemDocument], users: list[UserRecall], settings: Settings) -> ItemCells | None:
    """The cells of the approximate search; None where the search is exact.

    Args:
        content: the items.
        users: whose vectors the cells are fitted to.
        settings: with EXACT_SEARCH_UP_TO.
    """
    vectors = np.array([user.vector for user in users if user.vector], np.float32)
    if len(content) <= settings.exact_search_up_to or not len(vectors):
        return None
    return fit_cells(vectors, np.array([document["vector"] for document in content], np.float32), settings.seed)


def main() -> None:
    """Creates a new index, fills and checks it, then switches to it; an index that fails is deleted."""
    settings = Settings()
    dataset, content = catalogue.DATASET.load(), item_documents()
    drawn = np.random.default_rng(settings.seed).permutation(len(users_with_rows()))
    sample = sampled_users(np.sort(drawn[:SAMPLED_USERS]))
    approximate = len(content) > settings.exact_search_up_to
    others = sampled_users(np.sort(drawn[SAMPLED_USERS:][:MOST_USERS])) if approximate else []
    cells = cells_of(content, others, settings)
    load = load_digest()
    name = f"{ES_INDEX_OF_LOAD.format(load)}{time.strftime('%Y%m%d%H%M%S')}-{time.time_ns() % 1_000_000:06}"
    client = elasticsearch_client(settings, LOADER_TIMEOUT)
    try:
        create_index(client, name, len(content[0]["vector"]), cells, settings.index_replicas)
        try:
            fill_index(client, name, content, cells)
            checked = rows_to_check(len(content), settings)
            check_documents(client, name, content, dataset.categories.genres, checked, cells)
            caller = ElasticsearchCaller(settings, LOADER_TIMEOUT)
            overlap = check_nearest(caller, name, content, sample)
            asked = np.sort(np.random.default_rng(settings.seed).permutation(len(content))[:SAMPLED_ITEMS])
            neighbours = {int(content[row]["itemid"]): content[row]["similar"] for row in asked.tolist()}
            check_neighbours(SimilarItemsCaller(settings, LOADER_TIMEOUT), name, load, neighbours)
        except BaseException:
            client.indices.delete(index=name, ignore_unavailable=True)
            raise
        switch_alias(client, name)
    except (ApiError, TransportError) as error:
        raise ServiceUnavailable("elasticsearch", f"{error}; start it with `make services`") from error
    read = how_many_checked(len(content), "items", settings)
    confined = "" if cells is None else f", found in {CELLS_OF_A_SEARCH} of {len(cells.cells.centroids):,} cells"
    print(
        f"data set {dataset.dataset}: {len(content):,} items in {name}, {read} read back and equal; approximate top "
        f"{RECALL_SIZE} of {len(sample)} users: {overlap:.4f} of the exact one{confined}"
    )


if __name__ == "__main__":
    run_stage(main)
