"""Sequence recall: a user tower over the last impressions, whose vectors are what is served.

    python -m offline.recall.s3_sequence_recall

Why: the FM knows who rated what, not in which order. People go through series, genres and lists, and what they did
last says most about what they do next. The tower's user vector is a function of the last impressions alone: an event
moves it at once, and a user with a single event has one. It is trained to find the positives among a state's next ten
impressions in the whole catalogue.

The epoch to stop at is chosen on `valid`; the fit then goes on with the valid rows and is measured on `test` beside the
FM of s2; what is exported has gone on with all offline rows.
"""

import copy
from dataclasses import dataclass

import numpy as np

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array
from data_exchange_center.commit import writing
from data_exchange_center.dataset import DatasetDocument
from data_exchange_center.documents import (
    RecallComparison,
    SequenceRecallMetrics,
    TowerDocument,
    TowerShape,
    VectorRecallRows,
)
from offline.distributed import counted, is_first
from offline.fitting import BestEpoch, Schedule, state_on_cpu
from offline.fitting_stage import run_fitting_stage
from offline.metrics import Bootstrap, interval
from offline.recall.interactions import Interactions, Parts, read_parts
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequence_training import fit_tower, new_tower, user_vectors
from offline.recall.sequences import Sequences
from offline.retrieval_metrics import recall_at, recall_by_user

READS = (
    catalogue.DATASET,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.VALID_USER_VECTORS,
    catalogue.VALID_ITEM_VECTORS,
    catalogue.MEASURED_USER_VECTORS,
    catalogue.MEASURED_ITEM_VECTORS,
)
WRITES = (
    catalogue.TOWER_MODEL,
    catalogue.MEASURED_TOWER_MODEL,
    catalogue.VALID_TOWER_MODEL,
    catalogue.TOWER_META,
    catalogue.SEQUENCE_USER_VECTORS,
    catalogue.SEQUENCE_ITEM_VECTORS,
    catalogue.SEQUENCE_RECALL_METRICS,
)

MOST_EPOCHS = 40
# A large data set is fitted for fewer epochs, since each of them teaches more: at a million ratings an epoch takes 7 s
# of 2 cores, and 8 of them gain all but the last few thousandths of recall.
MOST_IMPRESSIONS = 5_600_000
PATIENCE, MINIMUM_GAIN = 6, 2e-4  # of Recall@50
GOING_ON = 3  # a fit that goes on with more rows takes one in so many of the epochs of the first one
KS = (50, 200)

Vectors = tuple[Float32Array, Float32Array]


@dataclass(frozen=True)
class Towers:
    """One tower at three times: fitted without valid, without test, and to all offline rows."""

    valid: SequenceTower
    measured: SequenceTower
    served: SequenceTower
    best: BestEpoch


def most_epochs(rows: int) -> int:
    """How many epochs of so many rows a fit may take."""
    return min(max(MOST_IMPRESSIONS // max(rows, 1), 2), MOST_EPOCHS)


def stopped_by_valid(parts: Parts, seed: int) -> Schedule[SequenceTower]:
    """Of a fit to train: it stops by Recall@50 on the valid rows of the users drawn."""
    train, valid = parts.drawn(seed)

    def valid_recall(tower: SequenceTower) -> float:
        return recall_at(*vectors_after(tower, train), train, valid, KS[:1])[KS[0]]

    return Schedule(most_epochs(parts.counts()["train"]), valid_recall, PATIENCE, MINIMUM_GAIN)


def fit_towers(parts: Parts, seed: int) -> Towers:
    """Stops by Recall@50 on valid, then goes on with the valid rows, then with all of them.

    To go on is what a service does each night; to begin again with every row would take three times as long.
    """
    train = Sequences.of(parts.train)
    tower = new_tower(train, TowerShape(), seed)
    best = fit_tower(tower, train, stopped_by_valid(parts, seed), seed)
    valid, going_on = copy.deepcopy(tower), Schedule[SequenceTower](max(best.epochs // GOING_ON, 1))
    fit_tower(tower, Sequences.of(parts.training), going_on, seed + 1)
    measured = copy.deepcopy(tower)
    fit_tower(tower, Sequences.of(parts.offline), going_on, seed + 2)
    return Towers(valid, measured, tower, best)


def vectors_after(tower: SequenceTower, rows: Interactions) -> Vectors:
    """[users, dim + 1] the vector after each user's last row, zeros for a user without rows; [items, dim + 1]."""
    users, items, liked = Sequences.of(rows).newest(tower.shape.window)
    vectors = np.zeros((rows.user_count, tower.shape.dim + 1), np.float32)
    vectors[users] = user_vectors(tower, items, liked)
    return vectors, tower.item_vectors()


def compare(tower: Vectors, fm: Vectors, seen: Interactions, held_out: Interactions, seed: int) -> RecallComparison:
    """Recall of the tower on the held-out positives, and what it gains over the FM."""
    (users, found), (_, of_fm) = (recall_by_user(*vectors, seen, held_out, KS) for vectors in (tower, fm))
    gain = found[50] - of_fm[50]
    return RecallComparison(
        recall_at_50=float(found[50].mean()) if len(users) else 0.0,
        recall_at_200=float(found[200].mean()) if len(users) else 0.0,
        gain_at_50=float(gain.mean()) if len(users) else 0.0,
        gain_at_50_interval=interval(Bootstrap(users, seed).means(gain)) if len(users) else (0.0, 0.0),
    )


def measure(parts: Parts, towers: Towers, dataset: DatasetDocument) -> SequenceRecallMetrics:
    """The towers beside the FM of s2, on valid and on test."""
    fm_valid = catalogue.VALID_USER_VECTORS.load(), catalogue.VALID_ITEM_VECTORS.load()
    fm_measured = catalogue.MEASURED_USER_VECTORS.load(), catalogue.MEASURED_ITEM_VECTORS.load()
    seed = dataset.seed
    return SequenceRecallMetrics(
        dataset=dataset.dataset,
        seed=seed,
        rows=VectorRecallRows(**parts.counts()),
        shape=towers.served.shape,
        epochs=towers.best.epochs,
        curve=towers.best.curve,
        valid=compare(vectors_after(towers.valid, parts.train), fm_valid, parts.train, parts.valid, seed),
        test=compare(vectors_after(towers.measured, parts.training), fm_measured, parts.training, parts.test, seed),
    )


def main() -> None:
    """Fits, measures on test beside the FM, exports."""
    dataset = catalogue.DATASET.load()
    parts = read_parts(dataset)
    towers = fit_towers(parts, dataset.seed)
    metrics = measure(parts, towers, dataset)
    meta = TowerDocument(
        dataset=dataset.dataset,
        items=parts.offline.item_count,
        id_digest=dataset.id_digest,
        shape=towers.served.shape,
    )
    user_side, item_side = vectors_after(towers.served, parts.offline)
    user_side = counted(user_side)  # each process has the vectors of its users, and zeros for the others
    if not is_first():
        return  # what follows is for one process alone
    with writing(WRITES) as out:
        out.save(catalogue.TOWER_MODEL, state_on_cpu(towers.served))
        out.save(catalogue.MEASURED_TOWER_MODEL, state_on_cpu(towers.measured))
        out.save(catalogue.VALID_TOWER_MODEL, state_on_cpu(towers.valid))
        out.save(catalogue.TOWER_META, meta)
        out.save(catalogue.SEQUENCE_USER_VECTORS, user_side)
        out.save(catalogue.SEQUENCE_ITEM_VECTORS, item_side)
        out.save(catalogue.SEQUENCE_RECALL_METRICS, metrics)
    print(f"data set {dataset.dataset}, {metrics.epochs} epochs; beside the FM of s2:")
    for name, recall in (("valid", metrics.valid), ("test", metrics.test)):
        low, high = recall.gain_at_50_interval
        print(
            f"  {name:<6} Recall@50 {recall.recall_at_50:.4f} ({low:+.4f} to {high:+.4f})  "
            f"Recall@200 {recall.recall_at_200:.4f}"
        )


if __name__ == "__main__":
    run_fitting_stage(main, __file__, READS)
