"""Vector recall: a factorization machine on userid and itemid, trained for two objectives.

    python -m offline.recall.s2_vector_recall

Why two: `rated` (log loss on the rated rows, the original's objective) tells liked from disliked among the items that a
user chose to rate; it has never seen an item that nobody chose, and recalls less than popularity does. `retrieval`
(the user's positives against the whole catalogue) is what finding candidates means. The second is exported.

Every setting is chosen on `valid`; the chosen model is then fitted again with the valid rows, for as many epochs, and
`test` is read once. What is exported is fitted once more, to all offline rows: a served model should know what its
users did last. What that is worth is measured on the online rows (make evaluate).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution

from data_exchange_center import catalogue
from data_exchange_center.columns import ITEM_INDEX, ITEMID, LABEL, SPLIT, USER_INDEX, USERID, Split
from data_exchange_center.stage import run_stage
from offline.fitting import BestEpoch, Schedule, state_on_cpu
from offline.metrics import Bootstrap, auc, interval
from offline.recall.factorization_machine import FactorizationMachine
from offline.recall.fm_training import (
    Floats,
    Pairs,
    fit_rated,
    fit_retrieval,
    pair_logits,
    recall_at,
    score_pairs,
)
from offline.search import Found, Params, search

READS = (catalogue.DATASET, catalogue.OFFLINE_IMPRESSIONS)
WRITES = (
    catalogue.FM_MODEL,
    catalogue.USER_VECTORS,
    catalogue.ITEM_VECTORS,
    catalogue.MEASURED_USER_VECTORS,
    catalogue.MEASURED_ITEM_VECTORS,
    catalogue.VALID_USER_VECTORS,
    catalogue.VALID_ITEM_VECTORS,
    catalogue.VECTOR_RECALL_METRICS,
)

L2 = FloatDistribution(0.008, 0.1, log=True)
L2_TRIED_FIRST: dict[str, tuple[Params, ...]] = {
    "rated": ({"l2": 0.015}, {"l2": 0.025}),
    "retrieval": ({"l2": 0.035}, {"l2": 0.06}),
}
TRIALS = 3
PATIENCE = {"rated": 2, "retrieval": 4}  # epochs; recall is the noisier figure
MINIMUM_GAIN = {"rated": 2e-4, "retrieval": 1e-4}  # of AUC, of recall
MOST_EPOCHS = 60
KS = (50, 200)
VALID_USERS = 2048  # drawn for the figure that each epoch of `retrieval` is judged by

Fit = Callable[[Pairs, float, Schedule[FactorizationMachine], int], tuple[FactorizationMachine, BestEpoch]]


def choose(
    objective: str, fit: Fit, train: Pairs, evaluate: Callable[[FactorizationMachine], float], seed: int
) -> Found[FactorizationMachine]:
    """The penalty with the best figure on valid, its model and epochs, and the table of all that were tried."""

    def fit_with(params: Params, report: Callable[[int, float], None]) -> tuple[FactorizationMachine, BestEpoch]:
        return fit(
            train,
            params["l2"],
            Schedule(MOST_EPOCHS, evaluate, PATIENCE[objective], MINIMUM_GAIN[objective], report),
            seed,
        )

    return search(fit_with, {"l2": L2}, L2_TRIED_FIRST[objective], TRIALS, seed)


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

    rated = choose("rated", fit_rated, train, valid_auc, seed)
    retrieval = choose("retrieval", fit_retrieval, train, valid_recall, seed)
    rated_model, _ = fit_rated(training, rated.params["l2"], Schedule(rated.best.epochs), seed)
    measured, served = (
        fit_retrieval(part, retrieval.params["l2"], Schedule(retrieval.best.epochs), seed)[0]
        for part in (training, rows)
    )

    popularity = popularity_vectors(training)
    bootstrap = Bootstrap(test.users, seed)

    def on_test(logits: Floats) -> dict[str, Any]:
        drawn = bootstrap.aucs(test.labels, logits)
        return {"test_auc": auc(test.labels, logits), "test_auc_interval": interval(drawn)}

    metrics: dict[str, Any] = {
        "dataset": dataset["dataset"],
        "seed": seed,
        "rows": {"train": len(train.users), "valid": len(valid.users), "test": len(test.users)},
        "rated": {
            **rated.params,
            "epochs": rated.best.epochs,
            "valid_auc": rated.best.value,
            **on_test(pair_logits(rated_model, test)),
            **recalls(rated_model.vectors(), training, test),
            "tried": rated.tried,
        },
        "retrieval": {
            **retrieval.params,
            "epochs": retrieval.best.epochs,
            "valid_recall@50": retrieval.best.value,
            **on_test(pair_logits(measured, test)),
            **recalls(measured.vectors(), training, test),
            "tried": retrieval.tried,
        },
        "popularity": {**on_test(score_pairs(*popularity, test)), **recalls(popularity, training, test)},
    }
    with catalogue.writing(WRITES) as out:
        out.state(catalogue.FM_MODEL, state_on_cpu(rated_model))
        for model, (users_file, items_file) in (
            (served, (catalogue.USER_VECTORS, catalogue.ITEM_VECTORS)),
            (measured, (catalogue.MEASURED_USER_VECTORS, catalogue.MEASURED_ITEM_VECTORS)),
            (retrieval.model, (catalogue.VALID_USER_VECTORS, catalogue.VALID_ITEM_VECTORS)),
        ):
            user_vectors, item_vectors = model.vectors()
            out.array(users_file, user_vectors)
            out.array(items_file, item_vectors)
        out.json(catalogue.VECTOR_RECALL_METRICS, metrics)
    print(f"data set {dataset['dataset']}, on test:")
    for name in ("popularity", "rated", "retrieval"):
        m = metrics[name]
        print(f"  {name:<10} AUC {m['test_auc']:.4f}  Recall@50 {m['recall@50']:.4f}  Recall@200 {m['recall@200']:.4f}")


if __name__ == "__main__":
    run_stage(main)
