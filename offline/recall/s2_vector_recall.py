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

import numpy as np
from optuna.distributions import FloatDistribution

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, UInt8Array
from data_exchange_center.commit import writing
from data_exchange_center.documents import (
    RatedFmMetrics,
    RetrievalFmMetrics,
    RetrievalMetrics,
    VectorRecallMetrics,
    VectorRecallRows,
)
from offline.distributed import counted, gathered, is_first
from offline.fitting import BestEpoch, Schedule, state_on_cpu
from offline.fitting_stage import run_fitting_stage
from offline.metrics import Bootstrap, auc, interval
from offline.recall.factorization_machine import FactorizationMachine
from offline.recall.fm_training import fit_rated, fit_retrieval, pair_logits, score_pairs
from offline.recall.interactions import Interactions, Parts, read_parts
from offline.retrieval_metrics import recall_at
from offline.thin_data import check_enough
from offline.tuning import Params, TuningResult, tune

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
PATIENCE = {"rated": 2, "retrieval": 4}  # epochs; recall is the noisier metric
MINIMUM_GAIN = {"rated": 2e-4, "retrieval": 1e-4}  # of AUC, of recall
MOST_EPOCHS = 60
KS = (50, 200)

Fit = Callable[[Interactions, float, Schedule[FactorizationMachine], int], tuple[FactorizationMachine, BestEpoch]]
Vectors = tuple[Float32Array, Float32Array]
Scores = tuple[Float32Array, dict[int, float]]  # logits of the rows of test; Recall@k


def tune_l2(
    objective: str, fit: Fit, train: Interactions, evaluate: Callable[[FactorizationMachine], float], seed: int
) -> TuningResult[FactorizationMachine]:
    """The penalty with the best metric on valid, its model and epochs, and all trials."""

    def fit_with(params: Params, report: Callable[[int, float], None]) -> tuple[FactorizationMachine, BestEpoch]:
        return fit(
            train,
            params["l2"],
            Schedule(MOST_EPOCHS, evaluate, PATIENCE[objective], MINIMUM_GAIN[objective], report),
            seed,
        )

    return tune(fit_with, {"l2": L2}, L2_TRIED_FIRST[objective], TRIALS, seed)


def tune_both(parts: Parts, seed: int) -> tuple[TuningResult[FactorizationMachine], TuningResult[FactorizationMachine]]:
    """The FM of the rated rows, by AUC on valid, and that of retrieval, by Recall@50 on valid."""
    drawn_train, drawn_valid = parts.drawn(seed)
    labels = gathered(parts.valid.labels)

    def valid_auc(model: FactorizationMachine) -> float:
        return auc(labels, gathered(pair_logits(model, parts.valid)))

    def valid_recall(model: FactorizationMachine) -> float:
        return recall_at(*model.vectors(), drawn_train, drawn_valid, KS[:1])[KS[0]]

    return (
        tune_l2("rated", fit_rated, parts.train, valid_auc, seed),
        tune_l2("retrieval", fit_retrieval, parts.train, valid_recall, seed),
    )


def popularity_vectors(fit: Interactions) -> Vectors:
    """Vectors of one dimension whose inner product is the item's count of positives."""
    counts = counted(np.bincount(fit.positives().items, minlength=fit.item_count)).astype(np.float32)
    return np.ones((fit.user_count, 1), np.float32), counts[:, None]


def scores_on_test(parts: Parts, logits: Float32Array, vectors: Vectors) -> Scores:
    """The logits of the rated rows of all processes, recall of the vectors over the whole catalogue."""
    return gathered(logits), recall_at(*vectors, parts.training, parts.test, KS)


def metrics_on_test(labels: UInt8Array, scores: Scores, bootstrap: Bootstrap) -> RetrievalMetrics:
    """AUC of the logits, with its interval, and recall."""
    logits, recall = scores
    return RetrievalMetrics(
        test_auc=auc(labels, logits),
        test_auc_interval=interval(bootstrap.aucs(labels, logits)),
        recall_at_50=recall[50],
        recall_at_200=recall[200],
    )


def main() -> None:
    """Chooses on valid, fits again on all training rows, measures on test, exports."""
    dataset = catalogue.DATASET.load()
    parts, seed = read_parts(dataset), dataset.seed
    labels = {name: gathered(part.labels) for name, part in vars(parts).items() if name in ("train", "valid", "test")}
    check_enough(labels, dataset.scale, dataset.online_rows)
    rated, retrieval = tune_both(parts, seed)
    rated_model, _ = fit_rated(parts.training, rated.params["l2"], Schedule(rated.best.epochs), seed)
    measured, served = (
        fit_retrieval(part, retrieval.params["l2"], Schedule(retrieval.best.epochs), seed)[0]
        for part in (parts.training, parts.offline)
    )

    popularity = popularity_vectors(parts.training)
    scores = {
        "popularity": scores_on_test(parts, score_pairs(*popularity, parts.test), popularity),
        "rated": scores_on_test(parts, pair_logits(rated_model, parts.test), rated_model.vectors()),
        "retrieval": scores_on_test(parts, pair_logits(measured, parts.test), measured.vectors()),
    }
    rows, users = VectorRecallRows(**parts.counts()), gathered(parts.test.users)
    if not is_first():
        return  # what follows is for one process alone
    bootstrap = Bootstrap(users, seed)
    on_test = {name: metrics_on_test(labels["test"], of_model, bootstrap) for name, of_model in scores.items()}
    metrics = VectorRecallMetrics(
        dataset=dataset.dataset,
        seed=seed,
        rows=rows,
        rated=RatedFmMetrics(
            **on_test["rated"].model_dump(),
            l2=rated.params["l2"],
            epochs=rated.best.epochs,
            valid_auc=rated.best.value,
            tried=rated.trials,
        ),
        retrieval=RetrievalFmMetrics(
            **on_test["retrieval"].model_dump(),
            l2=retrieval.params["l2"],
            epochs=retrieval.best.epochs,
            valid_recall_at_50=retrieval.best.value,
            tried=retrieval.trials,
        ),
        popularity=on_test["popularity"],
    )
    with writing(WRITES) as out:
        out.save(catalogue.FM_MODEL, state_on_cpu(rated_model))
        for model, (users_file, items_file) in (
            (served, (catalogue.USER_VECTORS, catalogue.ITEM_VECTORS)),
            (measured, (catalogue.MEASURED_USER_VECTORS, catalogue.MEASURED_ITEM_VECTORS)),
            (retrieval.model, (catalogue.VALID_USER_VECTORS, catalogue.VALID_ITEM_VECTORS)),
        ):
            for artefact, vectors in zip((users_file, items_file), model.vectors(), strict=True):
                out.save(artefact, vectors)
        out.save(catalogue.VECTOR_RECALL_METRICS, metrics)
    print(f"data set {dataset.dataset}, on test:")
    for name, m in on_test.items():
        print(f"  {name:<10} AUC {m.test_auc:.4f}  Recall@50 {m.recall_at_50:.4f}  Recall@200 {m.recall_at_200:.4f}")


if __name__ == "__main__":
    run_fitting_stage(main, __file__, READS)
