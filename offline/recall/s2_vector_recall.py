"""Vector recall: a factorization machine on userid and itemid, trained for two objectives.

    python -m offline.recall.s2_vector_recall

Why two: `rated` (log loss on the rated rows, the original's objective) tells liked from disliked among the items that a
user chose to rate; it has never seen an item that nobody chose, and recalls less than popularity does. `retrieval`
(the user's positives against the whole catalogue) is what finding candidates means. The second is exported.

Every setting is chosen on `valid`; the chosen model is then fitted again with the valid rows, for as many epochs, and
`test` is read once.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from data_exchange_center import catalogue
from data_exchange_center.columns import ITEM_INDEX, ITEMID, LABEL, SPLIT, USER_INDEX, USERID, Split
from data_exchange_center.stage import run_stage
from offline.fitting import BestEpoch, state_on_cpu
from offline.metrics import auc
from offline.recall.factorization_machine import FactorizationMachine
from offline.recall.fm_training import (
    Floats,
    Pairs,
    Schedule,
    fit_rated,
    fit_retrieval,
    pair_logits,
    recall_at,
    score_pairs,
)

READS = (catalogue.DATASET, catalogue.OFFLINE_IMPRESSIONS)
WRITES = (
    catalogue.FM_MODEL,
    catalogue.USER_VECTORS,
    catalogue.ITEM_VECTORS,
    catalogue.VALID_USER_VECTORS,
    catalogue.VALID_ITEM_VECTORS,
    catalogue.VECTOR_RECALL_METRICS,
)

# Penalties tried first; as long as the best lies at an edge, the search goes on beyond it in steps of 2.
L2_TRIED_FIRST = (0.02, 0.04)
MOST_TRIED = 8
MOST_EPOCHS = 40
KS = (50, 200)
VALID_USERS = 2048  # drawn for the figure that each epoch of `retrieval` is judged by

Fit = Callable[[Pairs, float, Schedule, int], tuple[FactorizationMachine, BestEpoch]]


def choose_l2(
    fit: Fit, train: Pairs, evaluate: Callable[[FactorizationMachine], float], seed: int
) -> tuple[float, FactorizationMachine, BestEpoch, list[dict[str, Any]]]:
    """The penalty with the best figure on valid, its model and epoch, and the table of all that were tried."""
    fitted = {l2: fit(train, l2, Schedule(MOST_EPOCHS, evaluate), seed) for l2 in L2_TRIED_FIRST}
    while len(fitted) < MOST_TRIED:
        best = max(fitted, key=lambda l2: fitted[l2][1].value)
        beyond = {max(fitted): best * 2, min(fitted): best / 2}.get(best)
        if beyond is None:
            break
        fitted[beyond] = fit(train, beyond, Schedule(MOST_EPOCHS, evaluate), seed)
    best = max(fitted, key=lambda l2: fitted[l2][1].value)
    tried = [
        {"l2": l2, "valid": epoch.value, "epochs": epoch.epochs, "curve": epoch.curve}
        for l2, (_, epoch) in sorted(fitted.items())
    ]
    return best, *fitted[best], tried


def popularity_vectors(fit: Pairs) -> tuple[Floats, Floats]:
    """Vectors of one dimension whose inner product is the item's count of positives."""
    counts = np.bincount(fit.positives().items, minlength=fit.item_count).astype(np.float32)
    return np.ones((fit.user_count, 1), np.float32), counts[:, None]


def recalls(vectors: tuple[Floats, Floats], seen: Pairs, held_out: Pairs) -> dict[str, float]:
    """Recall under the names that the metrics use."""
    return {f"recall@{k}": value for k, value in recall_at(*vectors, seen, held_out, KS).items()}


def main() -> None:
    """Chooses on valid, fits again on all training rows, measures on test, exports."""
    dataset = catalogue.load_json(catalogue.DATASET)
    seed: int = dataset["seed"]
    table = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS, [USER_INDEX, ITEM_INDEX, LABEL, SPLIT])
    users, items = (table[name].to_numpy().astype(np.int64) for name in (USER_INDEX, ITEM_INDEX))
    sizes = dataset["id_sizes"]
    rows = Pairs(users, items, table[LABEL].to_numpy(), sizes[USERID], sizes[ITEMID])
    split = table[SPLIT].to_numpy()
    train, valid, test = (rows.select(split == part) for part in (Split.TRAIN, Split.VALID, Split.TEST))
    training = rows.select(split != Split.TEST)

    judges = np.random.default_rng(seed).permutation(sizes[USERID])[:VALID_USERS]
    judged_train, judged_valid = (part.select(np.isin(part.users, judges)) for part in (train, valid))

    def valid_recall(model: FactorizationMachine) -> float:
        return recall_at(*model.vectors(), judged_train, judged_valid, KS[:1])[KS[0]]

    def valid_auc(model: FactorizationMachine) -> float:
        return auc(valid.labels, pair_logits(model, valid))

    rated_l2, _, rated_best, rated_tried = choose_l2(fit_rated, train, valid_auc, seed)
    l2, valid_model, retrieval_best, retrieval_tried = choose_l2(fit_retrieval, train, valid_recall, seed)
    rated, _ = fit_rated(training, rated_l2, Schedule(rated_best.epochs), seed)
    retrieval, _ = fit_retrieval(training, l2, Schedule(retrieval_best.epochs), seed)

    popularity = popularity_vectors(training)
    metrics = {
        "dataset": dataset["dataset"],
        "seed": seed,
        "rows": {"train": len(train.users), "valid": len(valid.users), "test": len(test.users)},
        "rated": {
            "l2": rated_l2,
            "valid_auc": rated_best.value,
            "test_auc": auc(test.labels, pair_logits(rated, test)),
            **recalls(rated.vectors(), training, test),
            "tried": rated_tried,
        },
        "retrieval": {
            "l2": l2,
            "valid_recall@50": retrieval_best.value,
            "test_auc": auc(test.labels, pair_logits(retrieval, test)),
            **recalls(retrieval.vectors(), training, test),
            "tried": retrieval_tried,
        },
        "popularity": {
            "test_auc": auc(test.labels, score_pairs(*popularity, test)),
            **recalls(popularity, training, test),
        },
    }
    with catalogue.writing(WRITES) as out:
        out.state(catalogue.FM_MODEL, state_on_cpu(rated))
        for model, (users_file, items_file) in (
            (retrieval, (catalogue.USER_VECTORS, catalogue.ITEM_VECTORS)),
            (valid_model, (catalogue.VALID_USER_VECTORS, catalogue.VALID_ITEM_VECTORS)),
        ):
            user_vectors, item_vectors = model.vectors()
            out.array(users_file, user_vectors)
            out.array(items_file, item_vectors)
        out.json(catalogue.VECTOR_RECALL_METRICS, metrics)
    print(f"data set {dataset['dataset']}, on test:")
    for name in ("popularity", "rated", "retrieval"):
        m: Any = metrics[name]
        print(f"  {name:<10} AUC {m['test_auc']:.4f}  Recall@50 {m['recall@50']:.4f}  Recall@200 {m['recall@200']:.4f}")


if __name__ == "__main__":
    run_stage(main)
