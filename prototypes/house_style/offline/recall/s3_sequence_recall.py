"""Sequence recall: a user tower over the last impressions, whose vectors are what is served.

    python -m offline.recall.s3_sequence_recall

Why: the FM knows who rated what, not in which order. People go through series, genres and lists, and what they did
last says most about what they do next. The tower's user vector is a function of the last impressions alone: an event
moves it at once, and a user with a single event has one. It is trained to find the positives among a state's next ten
impressions in the whole catalogue.

The epoch to stop at is chosen on `valid`; the model is fitted again with the valid rows and measured on `test` beside
the FM of s2; what is exported is fitted once more, to all offline rows.
"""

import numpy as np

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, UInt8Array
from data_exchange_center.columns import Column, Split
from data_exchange_center.commit import writing
from data_exchange_center.documents import (
    RecallComparison,
    SequenceRecallMetrics,
    TowerDocument,
    TowerShape,
    VectorRecallRows,
)
from data_exchange_center.stage import run_stage
from offline.fitting import Schedule, state_on_cpu
from offline.metrics import Bootstrap, interval
from offline.recall.interactions import Interactions
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequence_training import fit_tower, user_vectors
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
    catalogue.TOWER_META,
    catalogue.SEQUENCE_USER_VECTORS,
    catalogue.SEQUENCE_ITEM_VECTORS,
    catalogue.MEASURED_SEQUENCE_USER_VECTORS,
    catalogue.MEASURED_SEQUENCE_ITEM_VECTORS,
    catalogue.VALID_SEQUENCE_USER_VECTORS,
    catalogue.VALID_SEQUENCE_ITEM_VECTORS,
    catalogue.SEQUENCE_RECALL_METRICS,
)

MOST_EPOCHS = 40
PATIENCE, MINIMUM_GAIN = 3, 2e-4  # of Recall@50
VALID_USERS = 2048  # drawn for the recall that each epoch is evaluated by
KS = (50, 200)

Vectors = tuple[Float32Array, Float32Array]


def vectors_after(tower: SequenceTower, rows: Interactions) -> Vectors:
    """[users, dim + 1] the vector after each user's last row, zeros for a user without rows; [items, dim + 1]."""
    users, items, liked = sequences_of(rows).newest(tower.shape.window)
    vectors = np.zeros((rows.user_count, tower.shape.dim + 1), np.float32)
    vectors[users] = user_vectors(tower, items, liked)
    return vectors, tower.item_vectors()


def sequences_of(rows: Interactions) -> Sequences:
    """The rows, which are in the split's order, as sequences."""
    return Sequences.from_columns(rows.users, rows.items, rows.labels, rows.item_count)


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


def main() -> None:
    """Stops by valid, fits again, measures on test beside the FM, exports."""
    dataset = catalogue.DATASET.load()
    seed, sizes = dataset.seed, dataset.id_sizes
    table = catalogue.OFFLINE_IMPRESSIONS.load([Column.USER_INDEX, Column.ITEM_INDEX, Column.LABEL, Column.SPLIT])
    users, items = (table[name].to_numpy().astype(np.int64) for name in (Column.USER_INDEX, Column.ITEM_INDEX))
    labels: UInt8Array = table[Column.LABEL].to_numpy()
    rows = Interactions(users, items, labels, sizes[Column.USERID], sizes[Column.ITEMID])
    split = table[Column.SPLIT].to_numpy()
    train, valid, test = (rows.select(split == part) for part in (Split.TRAIN, Split.VALID, Split.TEST))
    training = rows.select(split != Split.TEST)

    drawn = np.random.default_rng(seed).permutation(rows.user_count)[:VALID_USERS]
    drawn_train, drawn_valid = (part.select(np.isin(part.users, drawn)) for part in (train, valid))

    def valid_recall(tower: SequenceTower) -> float:
        return recall_at(*vectors_after(tower, drawn_train), drawn_train, drawn_valid, KS[:1])[KS[0]]

    shape = TowerShape()
    schedule = Schedule(MOST_EPOCHS, valid_recall, PATIENCE, MINIMUM_GAIN)
    chosen, best = fit_tower(sequences_of(train), shape, schedule, seed)
    measured, served = (
        fit_tower(sequences_of(part), shape, Schedule(best.epochs), seed)[0] for part in (training, rows)
    )
    valid_vectors, measured_vectors = vectors_after(chosen, train), vectors_after(measured, training)
    fm_valid = catalogue.VALID_USER_VECTORS.load(), catalogue.VALID_ITEM_VECTORS.load()
    fm_measured = catalogue.MEASURED_USER_VECTORS.load(), catalogue.MEASURED_ITEM_VECTORS.load()
    metrics = SequenceRecallMetrics(
        dataset=dataset.dataset,
        seed=seed,
        rows=VectorRecallRows(train=len(train.users), valid=len(valid.users), test=len(test.users)),
        shape=shape,
        epochs=best.epochs,
        curve=best.curve,
        valid=compare(valid_vectors, fm_valid, train, valid, seed),
        test=compare(measured_vectors, fm_measured, training, test, seed),
    )
    c = catalogue
    with writing(WRITES) as out:
        out.save(c.TOWER_MODEL, state_on_cpu(served))
        out.save(c.TOWER_META, TowerDocument(dataset=dataset.dataset, items=rows.item_count, shape=shape))
        for (user_file, item_file), (user_side, item_side) in (
            ((c.SEQUENCE_USER_VECTORS, c.SEQUENCE_ITEM_VECTORS), vectors_after(served, rows)),
            ((c.MEASURED_SEQUENCE_USER_VECTORS, c.MEASURED_SEQUENCE_ITEM_VECTORS), measured_vectors),
            ((c.VALID_SEQUENCE_USER_VECTORS, c.VALID_SEQUENCE_ITEM_VECTORS), valid_vectors),
        ):
            out.save(user_file, user_side)
            out.save(item_file, item_side)
        out.save(c.SEQUENCE_RECALL_METRICS, metrics)
    print(f"data set {dataset.dataset}: {best.epochs} epochs; Recall@50, Recall@200, gain of Recall@50 over the FM:")
    for name, m in (("valid", metrics.valid), ("test", metrics.test)):
        low, high = m.gain_at_50_interval
        print(f"  {name:<6} {m.recall_at_50:.4f}  {m.recall_at_200:.4f}  {m.gain_at_50:+.4f} ({low:+.4f} to {high:+.4f})")


if __name__ == "__main__":
    run_stage(main)
