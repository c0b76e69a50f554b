"""Which parts of DeepFM help: each is taken away in turn, and the AUC on `valid` compared with the whole's.

    python -m benchmarks.ablation          (after `make offline`)

On `valid`, since nothing but the final figures may read `test`. Each variant is fitted SEEDS times with the penalty
that was chosen for the whole; a difference is called one only where its interval, by bootstrap over users, leaves out
0. Writes `.run/ablation.json`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.load import machine
from benchmarks.report import table, verdict
from data_exchange_center import catalogue
from data_exchange_center.columns import ITEM_INDEX, SPLIT, USER_INDEX, Split
from data_exchange_center.features import SPARSE_COLUMNS
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.fitting import Schedule
from offline.metrics import Bootstrap, auc, interval
from offline.rank.deepfm import DeepFM
from offline.rank.selection import MOST_EPOCHS
from offline.rank.training import Rows, fit, score
from offline.rank.training import Settings as Chosen

SEEDS = 3

Change = Callable[[Rows], Rows]


def unchanged(rows: Rows) -> Rows:
    """As they are."""
    return rows


@dataclass(frozen=True)
class Variant:
    """What the MLP sees, and what is done to the rows of train and valid."""

    name: str
    chosen: Chosen
    change: Change = unchanged


def without_side_features(rows: Rows) -> Rows:
    """Gender, age, occupation and genres unknown, which embed to zeros."""
    sparse = rows.sparse.clone()
    for column, name in enumerate(SPARSE_COLUMNS):
        if name not in (USER_INDEX, ITEM_INDEX):
            sparse[:, column] = 0
    return replace(rows, sparse=sparse)


def without_history(rows: Rows) -> Rows:
    """No counts: constant columns, which the standardisation turns to zeros."""
    return replace(rows, dense=torch.zeros_like(rows.dense))


def variants(chosen: Chosen) -> list[Variant]:
    """The whole first; what the MLP sees in it is not tried again."""
    whole = Variant(f"whole (MLP sees {chosen.deep_inputs})", chosen)
    others = [
        Variant("without MLP", replace(chosen, deep_inputs="none")),
        Variant("without side features", chosen, without_side_features),
        Variant("without history", chosen, without_history),
        Variant("MLP sees the history alone", replace(chosen, deep_inputs="dense")),
        Variant("MLP sees the side features' embeddings, too", replace(chosen, deep_inputs="dense+side")),
        Variant("MLP sees all embeddings, the ids', too", replace(chosen, deep_inputs="dense+all")),
    ]
    return [whole, *(other for other in others if (other.chosen, other.change) != (chosen, unchanged))]


def measure(seed: int) -> list[dict[str, Any]]:
    """Each variant's AUC on valid, and its difference to the whole's."""
    frame, meta = catalogue.load_table(catalogue.TRAINING_FRAME), catalogue.load_json(catalogue.FEATURE_META)
    deepfm = catalogue.load_json(catalogue.MODEL_METRICS)["deepfm"]
    split, rows = frame[SPLIT].to_numpy(), Rows.from_table(frame)
    train, valid = rows.select(split == Split.TRAIN), rows.select(split == Split.VALID)
    bootstrap = Bootstrap(frame[USER_INDEX].to_numpy()[split == Split.VALID], seed)
    whole: npt.NDArray[np.floating] | None = None
    lines = []
    for variant in variants(Chosen(deepfm["l2"], deepfm["deep_inputs"])):
        fitted, judged = variant.change(train), variant.change(valid)

        def evaluate(model: DeepFM, judged: Rows = judged) -> float:
            return auc(judged.labels, score(model, judged))

        aucs, draws = [], []
        for turn in range(SEEDS):
            schedule = Schedule(MOST_EPOCHS, evaluate)
            model, best = fit(fitted, variant.chosen, meta["vocabulary_sizes"], schedule, seed + turn)
            aucs.append(best.value)
            draws.append(bootstrap.aucs(judged.labels, score(model, judged)))
        drawn = np.mean(draws, axis=0)
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
    settings, dataset = Settings(), catalogue.load_json(catalogue.DATASET)
    report = {"dataset": dataset["dataset"], "seed": dataset["seed"], "machine": machine()}
    lines = measure(dataset["seed"])
    folder = settings.folder(settings.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ablation.json").write_text(json.dumps({**report, "variants": lines}, indent=2) + "\n")
    rows: list[list[object]] = [
        [
            line["variant"],
            f"{line['valid_auc']:.4f}",
            f"{line['difference']:+.4f} ({line['interval'][0]:+.4f} to {line['interval'][1]:+.4f})",
            line["verdict"],
        ]
        for line in lines
    ]
    print(f"data set {report['dataset']}, on valid, {SEEDS} seeds")
    print(table(rows, ["variant", "AUC", "difference to the whole", "verdict"]))


if __name__ == "__main__":
    run_stage(main)
