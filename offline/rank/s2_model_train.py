"""Trains DeepFM and chooses how its logit and the recall score are blended.

    python -m offline.rank.s2_model_train

The penalty, what the MLP sees, and the epoch to stop at are chosen by AUC on `valid`; there the logit is calibrated,
too. The chosen model is then fitted again with the valid rows, for as many epochs, and `test` is read once. What is
served is fitted once more, to all offline rows. The weight of the blend is chosen by NDCG@50 on `valid` over the whole
funnel (recall as Elasticsearch does it, then the final score), with models that have not seen it.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from data_exchange_center import catalogue
from data_exchange_center.columns import ITEM_INDEX, ITEMID, LABEL, SPLIT, USER_INDEX, USERID, Split
from data_exchange_center.features import COLUMNS
from data_exchange_center.stage import run_stage
from offline.fitting import Schedule, state_on_cpu
from offline.metrics import Bootstrap, auc, calibration, interval, log_loss
from offline.rank.baselines import logistic_regression, popularity
from offline.rank.blend import NDCG, choose_blend
from offline.rank.selection import choose, platt_scaling, settings_of
from offline.rank.training import Rows, fit, score
from offline.recall.factorization_machine import FactorizationMachine
from offline.recall.fm_training import DIM, Pairs, pair_logits

READS = (
    catalogue.DATASET,
    catalogue.TRAINING_FRAME,
    catalogue.FEATURE_META,
    catalogue.ITEM_FEATURES,
    catalogue.FM_MODEL,
    catalogue.VALID_USER_VECTORS,
    catalogue.VALID_ITEM_VECTORS,
    catalogue.VECTOR_RECALL_METRICS,
)
WRITES = (
    catalogue.DEEPFM_MODEL,
    catalogue.MEASURED_DEEPFM_MODEL,
    catalogue.DEEPFM_META,
    catalogue.MODEL_METRICS,
    catalogue.BLEND,
)

Floats = npt.NDArray[np.floating]


def figures_on_test(
    logits: dict[str, Floats], labels: npt.NDArray[np.uint8], users: npt.NDArray[np.int64], seed: int
) -> dict[str, dict[str, Any]]:
    """AUC with its interval, log loss, calibration error; and by how much each model beats the one before.

    Args:
        logits: [n] of each model, the weakest first.
        labels, users: [n] of the rows.
        seed: of the bootstrap.
    """
    bootstrap = Bootstrap(users, seed)
    figures: dict[str, dict[str, Any]] = {}
    before: Floats | None = None
    for name, z in logits.items():
        drawn = bootstrap.aucs(labels, z)
        figures[name] = {
            "test_auc": auc(labels, z),
            "test_auc_interval": interval(drawn),
            "log_loss": log_loss(labels, z),
            "calibration_error": calibration(labels, z).error,
        }
        if before is not None:
            figures[name]["test_auc_gain_interval"] = interval(drawn - before)
        before = drawn
    return figures


def main() -> None:
    """Chooses on valid, fits again, measures on test, fits for serving, chooses the blend, saves."""
    dataset, meta = catalogue.load_json(catalogue.DATASET), catalogue.load_json(catalogue.FEATURE_META)
    seed: int = dataset["seed"]
    sizes: dict[str, int] = meta["vocabulary_sizes"]
    fm_l2: float = catalogue.load_json(catalogue.VECTOR_RECALL_METRICS)["rated"]["l2"]
    frame = catalogue.load_table(catalogue.TRAINING_FRAME)

    split = frame[SPLIT].to_numpy()
    is_part = {name: split == part for name, part in vars(Split).items() if name.isupper()}
    is_part["TRAINING"] = split != Split.TEST
    rows = Rows.from_table(frame)
    train, valid, test, training = (rows.select(is_part[p]) for p in ("TRAIN", "VALID", "TEST", "TRAINING"))

    found = choose(train, valid, sizes, fm_l2, seed)
    settings, epochs = settings_of(found.params, fm_l2), found.best.epochs
    scale, shift = platt_scaling(score(found.model, valid), valid.labels)
    measured, served = (fit(part, settings, sizes, Schedule(epochs), seed)[0] for part in (training, rows))
    before_calibration = calibration(test.labels, score(measured, test)).error
    for model in (found.model, measured, served):
        model.calibrate(scale, shift)

    ids = Pairs(
        users=frame[USER_INDEX].to_numpy().astype(np.int64),
        items=frame[ITEM_INDEX].to_numpy().astype(np.int64),
        labels=frame[LABEL].to_numpy(),
        user_count=dataset["id_sizes"][USERID],
        item_count=dataset["id_sizes"][ITEMID],
    )
    pairs = {name: ids.select(part) for name, part in is_part.items()}
    fm = FactorizationMachine(ids.user_count, ids.item_count, DIM)
    fm.load_state_dict(catalogue.load_state(catalogue.FM_MODEL))
    logistic_valid_auc, logistic = logistic_regression(pairs["TRAINING"], pairs["TRAIN"], pairs["VALID"], pairs["TEST"])
    logits: dict[str, Floats] = {
        "popularity": popularity(pairs["TRAINING"], pairs["TEST"]),
        "logistic_regression": logistic,
        "fm": pair_logits(fm, pairs["TEST"]),
        "deepfm": score(measured, test),
    }
    figures = figures_on_test(logits, test.labels, pairs["TEST"].users, seed)
    figures["logistic_regression"]["valid_auc"] = logistic_valid_auc
    figures["deepfm"] |= {
        "valid_auc": found.best.value,
        **asdict(settings),
        "epochs": epochs,
        "calibration": {"scale": scale, "shift": shift, "error_before": before_calibration},
        "reliability": asdict(calibration(test.labels, logits["deepfm"])),
        "tried": found.tried,
    }

    vectors = catalogue.load_array(catalogue.VALID_USER_VECTORS), catalogue.load_array(catalogue.VALID_ITEM_VECTORS)
    blend = choose_blend(frame, catalogue.load_table(catalogue.ITEM_FEATURES), vectors, found.model, seed)
    weight = max(blend, key=lambda row: row[NDCG])["weight"]
    name = {"dataset": dataset["dataset"]}
    counts = {part.lower(): int(among.sum()) for part, among in is_part.items()}
    with catalogue.writing(WRITES) as out:
        out.state(catalogue.DEEPFM_MODEL, state_on_cpu(served))
        out.state(catalogue.MEASURED_DEEPFM_MODEL, state_on_cpu(measured))
        out.json(
            catalogue.DEEPFM_META,
            {**name, "columns": list(COLUMNS), "feature_hash": meta["feature_hash"], "settings": served.settings},
        )
        out.json(catalogue.MODEL_METRICS, {**name, "seed": seed, "rows": counts, **figures})
        out.json(catalogue.BLEND, {**name, "weight": weight, "tried": blend})
    print(
        f"data set {dataset['dataset']}; DeepFM's MLP sees {settings.deep_inputs}, {epochs} epochs, "
        f"L2 {settings.l2:.3g}; on test:"
    )
    for model_name, figure in figures.items():
        low, high = figure["test_auc_interval"]
        print(
            f"  {model_name:<20} AUC {figure['test_auc']:.4f} ({low:.4f} to {high:.4f})  "
            f"log loss {figure['log_loss']:.4f}  calibration error {figure['calibration_error']:.4f}"
        )
    table = ", ".join(f"{row['weight']:g}: {row[NDCG]:.4f}" for row in blend)
    print(f"final score = DeepFM's logit × {weight:g} + recall score; {NDCG.upper()} on valid by weight: {table}")


if __name__ == "__main__":
    run_stage(main)
