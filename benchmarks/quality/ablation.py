"""Which parts of DeepFM help: each is taken away in turn, and the AUC on `valid` compared with the whole's.

    python -m benchmarks.quality.ablation          (after `make offline`)

It looks at `valid`, since nothing but the final metrics may read `test`. Each variant is fitted SEEDS times with the
penalty that was chosen for the whole; a difference is called one only where its interval, by bootstrap over users,
leaves out 0. Writes ablation.json under RUN_DIR.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.quality.comparison import verdict
from benchmarks.report import machine, table, value_in, write_report
from data_exchange_center import catalogue
from data_exchange_center.arrays import FloatArray
from data_exchange_center.columns import Column, Split
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.fitting import Schedule
from offline.metrics import Bootstrap, auc, interval
from offline.rank.deepfm import DeepFM
from offline.rank.selection import MOST_EPOCHS
from offline.rank.training import HyperParameters, Rows, fit, score

SEEDS = 3

Change = Callable[[Rows], Rows]


def unchanged(rows: Rows) -> Rows:
    """The rows as they are."""
    return rows


@dataclass(frozen=True)
class Variant:
    """The hyper-parameters of a variant, and what is done to the rows of train and valid."""

    name: str
    hyper_parameters: HyperParameters
    change: Change = unchanged


def without_side_features(rows: Rows) -> Rows:
    """Gender, age, occupation and genres unknown, which embed to zeros."""
    sparse = rows.sparse.clone()
    for column, name in enumerate(rows.features.sparse_columns):
        if name not in (Column.USER_INDEX, Column.ITEM_INDEX):
            sparse[:, column] = 0
    return replace(rows, sparse=sparse)


def without_history(rows: Rows) -> Rows:
    """All counts 0: constant columns, which the standardisation turns into zeros."""
    return replace(rows, dense=torch.zeros_like(rows.dense))


def variants(chosen: HyperParameters) -> list[Variant]:
    """The whole first; a variant that equals it is not fitted twice."""
    whole = Variant(f"whole (MLP sees {chosen.deep_inputs})", chosen)
    others = [
        Variant("without MLP", replace(chosen, deep_inputs="none")),
        Variant("without side features", chosen, without_side_features),
        Variant("without history", chosen, without_history),
        Variant("MLP sees the history alone", replace(chosen, deep_inputs="dense")),
        Variant("MLP sees the side features' embeddings, too", replace(chosen, deep_inputs="dense+side")),
        Variant("MLP sees all embeddings, the ids', too", replace(chosen, deep_inputs="dense+all")),
    ]
    return [whole, *(other for other in others if (other.hyper_parameters, other.change) != (chosen, unchanged))]


def fit_variant(
    variant: Variant, train: Rows, valid: Rows, sizes: dict[str, int], bootstrap: Bootstrap, seed: int
) -> tuple[list[float], FloatArray]:
    """Fits a variant SEEDS times.

    Returns:
        [SEEDS] AUC on valid; [draws] the AUC in each draw of the bootstrap, averaged over the seeds.
    """
    fitted, evaluated = variant.change(train), variant.change(valid)

    def valid_auc(model: DeepFM) -> float:
        return auc(evaluated.labels, score(model, evaluated))

    aucs, drawn = [], []
    for turn in range(SEEDS):
        schedule = Schedule(MOST_EPOCHS, valid_auc)
        model, best = fit(fitted, variant.hyper_parameters, sizes, schedule, seed + turn)
        aucs.append(best.value)
        drawn.append(bootstrap.aucs(evaluated.labels, score(model, evaluated)))
    return aucs, np.mean(drawn, axis=0)


def measure(seed: int) -> list[dict[str, Any]]:
    """Each variant's AUC on valid, and its difference to the whole's."""
    frame, sizes = catalogue.TRAINING_FRAME.load(), catalogue.FEATURE_META.load().vocabulary_sizes
    deepfm = catalogue.MODEL_METRICS.load().deepfm
    split, rows = frame[Column.SPLIT].to_numpy(), Rows.from_table(frame, catalogue.DATASET.load().features)
    train, valid = rows.select(split == Split.TRAIN), rows.select(split == Split.VALID)
    bootstrap = Bootstrap(frame[Column.USER_INDEX].to_numpy()[split == Split.VALID], seed)
    whole: FloatArray | None = None
    lines = []
    for variant in variants(HyperParameters(deepfm.l2, deepfm.deep_inputs)):
        aucs, drawn = fit_variant(variant, train, valid, sizes, bootstrap, seed)
        whole = drawn if whole is None else whole
        low, high = interval(drawn - whole)
        lines.append(
            {
                "variant": variant.name,
                "valid_auc": float(np.mean(aucs)),
                "of_seeds": [round(value, 6) for value in aucs],
                "difference": float(np.mean(drawn - whole)),
                "interval": (low, high),
                "verdict": verdict(low, high),
            }
        )
        print(f"{variant.name}: {np.mean(aucs):.4f}", flush=True)
    return lines


def main() -> None:
    """Measures, writes the report."""
    dataset = catalogue.DATASET.load()
    report = {"dataset": dataset.dataset, "seed": dataset.seed, "machine": machine()}
    lines = measure(dataset.seed)
    write_report(Settings(), "ablation", {**report, "variants": lines})
    rows: list[list[object]] = [
        [
            line["variant"],
            f"{line['valid_auc']:.4f}",
            value_in(line["difference"], line["interval"]),
            line["verdict"],
        ]
        for line in lines
    ]
    print(f"data set {dataset.dataset}, on valid, {SEEDS} seeds")
    print(table(rows, ["variant", "AUC", "difference to the whole", "verdict"]))


if __name__ == "__main__":
    run_stage(main)
