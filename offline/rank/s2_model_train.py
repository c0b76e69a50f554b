"""Trains DeepFM: how probable it is that a user likes what they choose to rate.

    python -m offline.rank.s2_model_train

The penalty, what the MLP sees, and the epoch to stop at are chosen by AUC on `valid`; there the logit is calibrated,
too. The chosen model is then fitted again with the valid rows, for as many epochs, and `test` is read once. What is
served is fitted once more, to all offline rows.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, FloatArray, UInt8Array
from data_exchange_center.columns import Column, Split
from data_exchange_center.commit import writing
from data_exchange_center.dataset import DatasetDocument
from data_exchange_center.documents import (
    DeepFmDocument,
    DeepFmMetrics,
    LogisticRegressionMetrics,
    ModelMetrics,
    PlattScaling,
    RankingMetrics,
    RankingRows,
    Reliability,
)
from data_exchange_center.features import FeatureSet
from data_exchange_center.settings import Settings
from offline.distributed import agreed, gathered, is_first, rows_of_this_process
from offline.fitting import Schedule, state_on_cpu
from offline.fitting_stage import run_fitting_stage
from offline.metrics import Bootstrap, auc, calibration, interval, log_loss
from offline.rank.baselines import logistic_regression, popularity
from offline.rank.deepfm import DeepFM
from offline.rank.selection import choose, hyper_parameters, platt_scaling
from offline.rank.stored_rows import MIB, StoredRows
from offline.rank.training import FrameRows, HyperParameters, Rows, fit, score_all
from offline.recall.factorization_machine import FactorizationMachine
from offline.recall.fm_training import DIM, pair_logits
from offline.recall.interactions import Interactions
from offline.tuning import TuningResult

READS = (
    catalogue.DATASET,
    catalogue.TRAINING_FRAME,
    catalogue.FEATURE_META,
    catalogue.FM_MODEL,
    catalogue.VECTOR_RECALL_METRICS,
)
WRITES = (
    catalogue.DEEPFM_MODEL,
    catalogue.MEASURED_DEEPFM_MODEL,
    catalogue.VALID_DEEPFM_MODEL,
    catalogue.DEEPFM_META,
    catalogue.MODEL_METRICS,
)

BASELINE_BYTES = 200  # of memory that scikit-learn takes for a row, about


@dataclass(frozen=True)
class Parts:
    """Which rows of the frame belong to each part; `training` is train and valid together."""

    train: BoolArray
    valid: BoolArray
    test: BoolArray
    training: BoolArray

    @classmethod
    def of_frame(cls, frame: pa.Table) -> "Parts":
        """From the column `split`."""
        split = frame[Column.SPLIT].to_numpy()
        return cls(split == Split.TRAIN, split == Split.VALID, split == Split.TEST, split != Split.TEST)


def read_frame(features: FeatureSet, memory_mib: int | None) -> tuple[Parts, FrameRows]:
    """This process's share of the training frame: in memory, or in blocks where there is a limit in MiB."""
    share = rows_of_this_process(catalogue.TRAINING_FRAME)
    if memory_mib is None:
        frame = catalogue.TRAINING_FRAME.load(rows=share)
        return Parts.of_frame(frame), Rows.from_table(frame, features)
    frame = catalogue.TRAINING_FRAME.load([Column.LABEL, Column.SPLIT], share)
    labels, first = frame[Column.LABEL].to_numpy(), share[0] if share else 0
    return Parts.of_frame(frame), StoredRows(features, first, np.ones(len(labels), bool), labels, memory_mib)


@dataclass(frozen=True)
class TunedDeepFm:
    """DeepFM after its tuning: fitted without valid, without test, and to all offline rows; all three calibrated.

    `logits` [test rows] are those of the second one.
    """

    tuning: TuningResult[DeepFM]
    hyper_parameters: HyperParameters
    measured: DeepFM
    served: DeepFM
    calibration: PlattScaling
    logits: FloatArray


def tune_and_fit(rows: FrameRows, parts: Parts, sizes: dict[str, int], fm_l2: float, seed: int) -> TunedDeepFm:
    """Chooses on valid, calibrates there, and fits again to more rows with what was chosen."""
    train, valid, test, training = (rows.select(p) for p in (parts.train, parts.valid, parts.test, parts.training))
    tuning = choose(train, valid, sizes, fm_l2, seed)
    chosen, schedule = hyper_parameters(tuning.params, fm_l2), Schedule[DeepFM](tuning.best.epochs)
    scale, shift = agreed(platt_scaling(score_all(tuning.model, valid), gathered(valid.labels)))
    measured, served = (fit(part, chosen, sizes, schedule, seed)[0] for part in (training, rows))
    before = calibration(gathered(test.labels), score_all(measured, test)).error
    for model in (tuning.model, measured, served):
        model.calibrate(scale, shift)
    platt = PlattScaling(scale=scale, shift=shift, error_before=before)
    return TunedDeepFm(tuning, chosen, measured, served, platt, score_all(measured, test))


def ranking_metrics(
    logits: dict[str, FloatArray], labels: UInt8Array, bootstrap: Bootstrap
) -> dict[str, RankingMetrics]:
    """Each model's metrics on test, and by how much its AUC exceeds that of the model before.

    Args:
        logits: [n] of each model, the weakest first.
        labels: [n].
        bootstrap: of the rows' users.
    """
    metrics: dict[str, RankingMetrics] = {}
    before: FloatArray | None = None
    for name, z in logits.items():
        drawn = bootstrap.aucs(labels, z)
        metrics[name] = RankingMetrics(
            test_auc=auc(labels, z),
            test_auc_interval=interval(drawn),
            log_loss=log_loss(labels, z),
            calibration_error=calibration(labels, z).error,
            test_auc_gain_interval=None if before is None else interval(drawn - before),
        )
        before = drawn
    return metrics


def thinned(rows: BoolArray, most: int, seed: int) -> BoolArray:
    """Of some rows [n], at most so many, drawn at random."""
    if rows.sum() <= most:
        return rows
    drawn = np.random.default_rng(seed).choice(np.flatnonzero(rows), most, replace=False)
    kept = np.zeros_like(rows)
    kept[drawn] = True
    return kept


def measure(tuned: TunedDeepFm, dataset: DatasetDocument, memory_mib: int | None) -> ModelMetrics:
    """DeepFM beside popularity, logistic regression and FM on the same rows of test.

    scikit-learn fits to rows in memory: where there is a limit in MiB, to as many as it allows, and this is printed.
    """
    frame = catalogue.TRAINING_FRAME.load([Column.USER_INDEX, Column.ITEM_INDEX, Column.LABEL, Column.SPLIT])
    parts = Parts.of_frame(frame)
    ids = Interactions(
        users=frame[Column.USER_INDEX].to_numpy().astype(np.int64),
        items=frame[Column.ITEM_INDEX].to_numpy().astype(np.int64),
        labels=frame[Column.LABEL].to_numpy(),
        user_count=dataset.id_sizes[Column.USERID],
        item_count=dataset.id_sizes[Column.ITEMID],
    )
    most = memory_mib * MIB // BASELINE_BYTES if memory_mib else len(frame)
    kept = thinned(parts.training, most, dataset.seed)
    if not kept[parts.training].all():
        print(f"popularity and logistic regression are fitted to {most:,} of {parts.training.sum():,} rows")
    masks = parts.train & kept, parts.valid, parts.test, kept
    train, valid, test, training = (ids.select(mask) for mask in masks)
    fm = FactorizationMachine(ids.user_count, ids.item_count, DIM)
    fm.load_state_dict(catalogue.FM_MODEL.load())
    logistic = logistic_regression(training, train, valid, test)
    logits: dict[str, FloatArray] = {
        "popularity": popularity(training, test),
        "logistic_regression": logistic.logits,
        "fm": pair_logits(fm, test),
        "deepfm": tuned.logits,
    }
    metrics = ranking_metrics(logits, test.labels, Bootstrap(test.users, dataset.seed))
    return ModelMetrics(
        dataset=dataset.dataset,
        seed=dataset.seed,
        rows=RankingRows(**{name: int(rows.sum()) for name, rows in vars(parts).items()}),
        popularity=metrics["popularity"],
        logistic_regression=LogisticRegressionMetrics(
            **metrics["logistic_regression"].model_dump(), valid_auc=logistic.valid_auc, c=logistic.c
        ),
        fm=metrics["fm"],
        deepfm=DeepFmMetrics(
            **metrics["deepfm"].model_dump(),
            **asdict(tuned.hyper_parameters),
            valid_auc=tuned.tuning.best.value,
            epochs=tuned.tuning.best.epochs,
            calibration=tuned.calibration,
            reliability=Reliability(**asdict(calibration(test.labels, tuned.logits))),
            tried=tuned.tuning.trials,
        ),
    )


def report(metrics: ModelMetrics) -> None:
    """Prints what was measured and chosen."""
    deepfm = metrics.deepfm
    print(
        f"data set {metrics.dataset}; DeepFM's MLP sees {deepfm.deep_inputs}, {deepfm.epochs} epochs, "
        f"L2 {deepfm.l2:.3g}; on test:"
    )
    for name in ("popularity", "logistic_regression", "fm", "deepfm"):
        model: RankingMetrics = getattr(metrics, name)
        low, high = model.test_auc_interval
        print(
            f"  {name:<20} AUC {model.test_auc:.4f} ({low:.4f} to {high:.4f})  "
            f"log loss {model.log_loss:.4f}  calibration error {model.calibration_error:.4f}"
        )


def main() -> None:
    """Chooses on valid, fits again, measures on test, fits for serving, saves."""
    dataset, features = catalogue.DATASET.load(), catalogue.FEATURE_META.load()
    fm_l2 = catalogue.VECTOR_RECALL_METRICS.load().rated.l2
    memory_mib = Settings().training_memory_mib
    parts, rows = read_frame(dataset.features, memory_mib)
    tuned = tune_and_fit(rows, parts, features.vocabulary_sizes, fm_l2, dataset.seed)
    if not is_first():
        return  # what follows is for one process alone
    metrics = measure(tuned, dataset, memory_mib)
    meta = DeepFmDocument(
        dataset=dataset.dataset,
        columns=features.columns,
        feature_hash=features.feature_hash,
        settings=tuned.served.settings,
    )
    with writing(WRITES) as out:
        out.save(catalogue.DEEPFM_MODEL, state_on_cpu(tuned.served))
        out.save(catalogue.MEASURED_DEEPFM_MODEL, state_on_cpu(tuned.measured))
        out.save(catalogue.VALID_DEEPFM_MODEL, state_on_cpu(tuned.tuning.model))
        out.save(catalogue.DEEPFM_META, meta)
        out.save(catalogue.MODEL_METRICS, metrics)
    report(metrics)


if __name__ == "__main__":
    run_fitting_stage(main, __file__, READS)
