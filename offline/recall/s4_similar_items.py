"""Similar items: for each item those that the same people like next, by what they did and by the tower's vectors.

    python -m offline.recall.s4_similar_items

Why: whoever looks at one item asks for others like it, and need not be known for that. People go through series and
lists in order, so that what follows an item in others' sequences says most; where few have met it, its vector speaks.

How far a later like counts, after what, and how many likes the vectors are worth is chosen on `valid`, by what was
fitted to `train`; `test` is asked with what was fitted without it, beside co-popularity (the likes that follow a like,
counted, in the window that valid prefers) and popularity; what is served knows all offline rows.
"""

import numpy as np
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.commit import writing
from data_exchange_center.dataset import DatasetDocument
from data_exchange_center.documents import VectorRecallRows
from data_exchange_center.similar_items import MEASURED_AT, NEIGHBOURS, SimilarItemsMetrics, SimilarItemsRecall
from data_exchange_center.stage import run_stage
from offline.recall.following_likes import HORIZON, Queries
from offline.recall.interactions import Parts, read_parts
from offline.recall.neighbour_choice import MOST_TRIED, Choice, choose, lists_of, measure
from offline.recall.neighbours import Neighbours
from offline.recall.sequence_tower import tower_from

READS = (
    catalogue.DATASET,
    catalogue.ITEMS,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.TOWER_META,
    catalogue.VALID_TOWER_MODEL,
    catalogue.MEASURED_TOWER_MODEL,
    catalogue.SEQUENCE_ITEM_VECTORS,
)
WRITES = (catalogue.SIMILAR_ITEMS, catalogue.SIMILAR_ITEMS_METRICS)


def table_of(items: Int64Array, scores: Float32Array) -> pa.Table:
    """The artefact: the neighbours of each item of the catalogue, best first.

    Args:
        items, scores: [vocabulary - 1, NEIGHBOURS] by item_index, the unknown one left out; item 0 in empty places.
    """
    catalogued = catalogue.ITEMS.load([Column.ITEMID, Column.ITEM_INDEX])
    itemids, indices = (catalogued[name].to_numpy() for name in (Column.ITEMID, Column.ITEM_INDEX))
    id_of = np.zeros(len(items) + 1, np.int64)
    id_of[indices] = itemids
    rows = indices - 1  # -1 for an item that nobody has rated, which has no neighbours
    there = (items[rows] > 0) & (rows >= 0)[:, None]
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
    columns = id_of[items[rows][there]], scores[rows][there]
    return pa.table(
        {
            Column.ITEMID: itemids,
            Column.SIMILAR_ITEMS: pa.ListArray.from_arrays(offsets, columns[0]),
            Column.SIMILAR_SCORES: pa.ListArray.from_arrays(offsets, columns[1]),
        }
    )


def metrics_of(
    parts: Parts, dataset: DatasetDocument, queries: Queries, choice: Choice, measured: dict[str, SimilarItemsRecall]
) -> SimilarItemsMetrics:
    """What was chosen and measured, as the artefact says it."""
    return SimilarItemsMetrics(
        dataset=dataset.dataset,
        seed=dataset.seed,
        rows=VectorRecallRows(**parts.counts()),
        horizon=HORIZON,
        queries=int(queries.asked.sum()),
        users=len(np.unique(queries.users[queries.asked])),
        chosen=choice.settings,
        tried=choice.tried,
        co_popularity_window=choice.window,
        co_popularity_tried=choice.windows,
        blend=measured["blend"],
        co_occurrence=measured["co_occurrence"],
        vectors=measured["vectors"],
        co_popularity=measured["co_popularity"],
        popularity=measured["popularity"],
    )


def main() -> None:
    """Chooses on valid, measures on test, writes the neighbours of every item."""
    dataset = catalogue.DATASET.load()
    parts, meta = read_parts(dataset), catalogue.TOWER_META.load()
    fitted_to_train = tower_from(meta, catalogue.VALID_TOWER_MODEL.load()).item_vectors()
    asked_of_valid = Queries.of(parts.valid).drawn(MOST_TRIED, dataset.seed)
    choice = choose(Neighbours.of(parts.train, fitted_to_train), asked_of_valid)

    fitted_to_training = tower_from(meta, catalogue.MEASURED_TOWER_MODEL.load()).item_vectors()
    queries = Queries.of(parts.test)
    measured = measure(Neighbours.of(parts.training, fitted_to_training), queries, choice, dataset.seed)
    metrics = metrics_of(parts, dataset, queries, choice, measured)

    served = Neighbours.of(parts.offline, catalogue.SEQUENCE_ITEM_VECTORS.load())
    known = np.arange(1, served.item_count)
    lists = lists_of(lambda block: served.scores(block, choice.settings), known, served.item_count, NEIGHBOURS)
    table = table_of(*lists)
    with writing(WRITES) as out:
        out.save(catalogue.SIMILAR_ITEMS, table)
        out.save(catalogue.SIMILAR_ITEMS_METRICS, metrics)
    low, high = metrics.co_popularity.gain_interval or (0.0, 0.0)
    worth = f"the vectors worth {metrics.chosen.prior_weight:g} likes"
    print(f"data set {dataset.dataset}, {worth}; Recall@{MEASURED_AT} of the next {HORIZON} likes on test:")
    print(
        f"  popularity {metrics.popularity.recall:.4f}, co-popularity {metrics.co_popularity.recall:.4f}, "
        f"similar items {metrics.blend.recall:.4f} ({low:+.4f} to {high:+.4f})"
    )


if __name__ == "__main__":
    run_stage(main)
