"""What could make a user's vector: the product's tower beside the FM, lags alone, a GRU, and SASRec, on `valid`.

    python -m benchmarks.quality.encoders          (after `make offline`)

It looks at `valid`, since nothing but the final metrics may read `test`. Each encoder is fitted to `train` once, with
the product's batches, averaged weights and stopping. A difference is called one only where its interval, by bootstrap
over users, leaves out 0; the intervals do not hold what another seed of a fit would change. Writes encoders.json and
encoders.md under RUN_DIR.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.quality.comparison import difference, summary
from benchmarks.quality.list_metrics import PerUser
from benchmarks.quality.sequence_encoders import GRUTower, SASRecTower, fit_next_liked
from benchmarks.quality.tables import with_interval
from benchmarks.report import Report, machine, measured_on, table, value_in, write_report
from data_exchange_center import catalogue
from data_exchange_center.arrays import Int64Array
from data_exchange_center.documents import TowerShape
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.fitting import BestEpoch, Schedule
from offline.metrics import Bootstrap
from offline.recall.interactions import Interactions, Parts, read_parts
from offline.recall.s3_sequence_recall import KS, Vectors, stopped_by_valid, vectors_after
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequence_training import fit_tower, new_tower
from offline.recall.sequences import Sequences
from offline.retrieval_metrics import USERS_AT_A_TIME, ndcg, recall_by_user, top_items

FM = "FM of retrieval"
PRODUCT = "the product's tower"
TOP = 10
METRICS = (*(f"recall@{k}" for k in KS), f"ndcg@{TOP}")

Fit = Callable[[SequenceTower, Sequences, Schedule[SequenceTower], int], BestEpoch]


@dataclass(frozen=True)
class Encoder:
    """What makes the user's vector, and how it is fitted."""

    name: str
    tower: type[SequenceTower] = SequenceTower
    shape: TowerShape = TowerShape()
    fit: Fit = fit_tower


ENCODERS = (
    Encoder(PRODUCT),
    Encoder("weights by lag and liking alone", shape=TowerShape(content=False)),
    Encoder("GRU", GRUTower),
    Encoder("SASRec, its own objective", SASRecTower, fit=fit_next_liked),
    Encoder("SASRec, the product's objective", SASRecTower),
)


def new_encoder(encoder: Encoder, train: Sequences, seed: int) -> SequenceTower:
    """An encoder to fit, whose softmax begins as the product's does."""
    popularity = new_tower(train, encoder.shape, seed).bias.detach()
    torch.manual_seed(seed)
    return encoder.tower(train.item_count, encoder.shape, popularity)


def fit_encoder(encoder: Encoder, parts: Parts, seed: int) -> tuple[Vectors, dict[str, Any]]:
    """Fits to train, stopped as the product's tower is: by Recall@50 on the valid rows of the same drawn users.

    Returns:
        The vectors after train, and what the fit took.
    """
    train, schedule = Sequences.of(parts.train), stopped_by_valid(parts, seed)
    tower = new_encoder(encoder, train, seed)
    begin = time.perf_counter()
    best = encoder.fit(tower, train, schedule, seed)
    cost = {
        "seconds": round(time.perf_counter() - begin, 1),
        "parameters": sum(parameter.numel() for parameter in tower.parameters()),
        "epochs": best.epochs,
        "curve": best.curve,
    }
    return vectors_after(tower, parts.train), cost


def metrics_by_user(vectors: Vectors, seen: Interactions, held_out: Interactions) -> tuple[Int64Array, PerUser]:
    """[n] the users with a held-out positive, and [n] each of METRICS; items in `seen` are filtered."""
    users, recall = recall_by_user(*vectors, seen, held_out, KS)
    relevant, filtered = held_out.positives().matrix(), seen.matrix()
    found = np.zeros(len(users))
    for first in range(0, len(users), USERS_AT_A_TIME):
        block = users[first : first + USERS_AT_A_TIME]
        top = top_items(*vectors, block, filtered, TOP)
        descending = np.broadcast_to(-np.arange(top.shape[1], dtype=np.float64), top.shape)
        found[first : first + len(block)] = ndcg(
            top, descending, np.ones(top.shape, bool), relevant[block].toarray() > 0, TOP
        )
    return users, {**{f"recall@{k}": values for k, values in recall.items()}, f"ndcg@{TOP}": found}


def measure(parts: Parts, seed: int) -> dict[str, Any]:
    """Metrics on valid and cost of each encoder, and its differences to the product's tower."""
    fm = catalogue.VALID_USER_VECTORS.load(), catalogue.VALID_ITEM_VECTORS.load()
    # The FM was fitted by its stage. The user's bias, which no order of items notices, is not among its vectors.
    costs: dict[str, dict[str, Any]] = {FM: {"parameters": sum(side.size for side in fm)}}
    users, found = metrics_by_user(fm, parts.train, parts.valid)
    metrics: Mapping[str, PerUser] = {FM: found}
    for encoder in ENCODERS:
        vectors, costs[encoder.name] = fit_encoder(encoder, parts, seed)
        _, found = metrics_by_user(vectors, parts.train, parts.valid)
        metrics = {**metrics, encoder.name: found}
        print(f"{encoder.name}: Recall@50 {found['recall@50'].mean():.4f}", flush=True)
    bootstrap = Bootstrap(users, seed)
    return {
        "users": len(users),
        "encoders": {
            name: {
                **summary(found, bootstrap),
                **costs[name],
                "difference": {
                    metric: difference(found[metric], metrics[PRODUCT][metric], bootstrap)
                    for metric in METRICS
                    if name != PRODUCT
                },
            }
            for name, found in metrics.items()
        },
    }


def _fit_columns(encoder: Mapping[str, Any]) -> list[object]:
    if "curve" not in encoder:
        return ["—", f"{encoder['parameters']:,}", "—"]
    epochs = f"{encoder['epochs']} of {len(encoder['curve'])}"
    return [f"{encoder['seconds']:.0f}", f"{encoder['parameters']:,}", epochs]


def encoder_tables(report: Report) -> str:
    """The report as Markdown."""
    encoders = report["encoders"]
    systems: list[list[object]] = [
        [name, *(with_interval(encoder[metric]) for metric in METRICS), *_fit_columns(encoder)]
        for name, encoder in encoders.items()
    ]
    differences: list[list[object]] = [
        [name, metric, value_in(d["value"], d["interval"]), d["verdict"]]
        for name, encoder in encoders.items()
        for metric, d in encoder["difference"].items()
    ]
    parts = [
        "# Encoders of the user's vector, on valid",
        f"{measured_on(report)} {report['users']:,} users with a positive among their valid rows. Intervals: 95 %, by "
        "bootstrap over users. Epochs: the best one, of how many were fitted.",
        table(systems, ["encoder", *METRICS, "seconds of the fit", "parameters", "epochs"]),
        table(differences, ["encoder", "metric", f"difference to {PRODUCT}", "verdict"]),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measures, writes the report."""
    dataset = catalogue.DATASET.load()
    about = {"dataset": dataset.dataset, "seed": dataset.seed, "machine": machine()}
    report = {**about, **measure(read_parts(dataset), dataset.seed)}
    text = encoder_tables(report)
    write_report(Settings(), "encoders", report, text)
    print(text)


if __name__ == "__main__":
    run_stage(main)
