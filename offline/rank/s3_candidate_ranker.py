"""Trains the model that orders the list, on the funnel's own candidates.

    python -m offline.rank.s3_candidate_ranker

Why: DeepFM answers "is what this user chose to rate liked?", and no candidate of recall that nobody chose occurs in its
training: mixed into the recall score, its logit deserves next to no weight. The ranker's rows are the candidates that
the funnel would have served at moments of the past, and its labels what the user liked next. What makes the candidates
was fitted to rows before those that label them.

The like head, beside it, tells liked from disliked among rated items, as DeepFM does, and sees the sequence.

Objective and epochs are chosen on `valid`, by users that the fit has not seen. Both nets are then fitted to all of
`valid` and measured once on `test`; what is served goes on with `test`.
"""

from dataclasses import dataclass

import numpy as np
import torch

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, Int64Array, UInt8Array
from data_exchange_center.artefact import Array, StateDict
from data_exchange_center.columns import Column, Split
from data_exchange_center.commit import writing
from data_exchange_center.dataset import DatasetDocument
from data_exchange_center.documents import Objective, RankerDocument, RankerMetrics, RankerTrial
from offline.distributed import Share, is_first, rows_of_this_process
from offline.fitting import Schedule, state_on_cpu
from offline.fitting_stage import run_fitting_stage
from offline.rank.candidate_lists import Funnel, Impressions, lists_acted_on, make_lists, rated_items
from offline.rank.deepfm import deepfm_from
from offline.rank.item_knowledge import knowledge_of
from offline.rank.ranker import CandidateKnowledge, CandidateNet, Ranker
from offline.rank.ranker_selection import OfBlock, choose_like_epochs, choose_objective, compare, like_metrics
from offline.rank.ranker_training import TrainingLists, fit_net, new_net
from offline.recall.interactions import Interactions, Parts, read_parts
from offline.recall.sequence_tower import tower_from
from offline.recall.sequences import Sequences

GOING_ON = 2  # the fit that goes on with test takes one in so many of the epochs
MOST_ROWS = 50_000  # rated items that the like head is fitted to; the metrics are of all


@dataclass(frozen=True)
class FunnelSources:
    """The artefacts of one time: fitted without valid, without test, or to all offline rows."""

    tower: StateDict
    fm_users: Array
    fm_items: Array
    deepfm: StateDict

    def funnel(self, rows: Interactions) -> Funnel:
        """The funnel that was fitted to those rows."""
        tower = tower_from(catalogue.TOWER_META.load(), self.tower.load())
        fm_vectors = self.fm_users.load(), self.fm_items.load()
        return Funnel(
            tower,
            knowledge_of(rows, tower.item_vectors(), fm_vectors),
            deepfm_from(catalogue.DEEPFM_META.load().settings, self.deepfm.load()),
        )


VALID = FunnelSources(
    catalogue.VALID_TOWER_MODEL,
    catalogue.VALID_USER_VECTORS,
    catalogue.VALID_ITEM_VECTORS,
    catalogue.VALID_DEEPFM_MODEL,
)
MEASURED = FunnelSources(
    catalogue.MEASURED_TOWER_MODEL,
    catalogue.MEASURED_USER_VECTORS,
    catalogue.MEASURED_ITEM_VECTORS,
    catalogue.MEASURED_DEEPFM_MODEL,
)
SERVED = FunnelSources(catalogue.TOWER_MODEL, catalogue.USER_VECTORS, catalogue.ITEM_VECTORS, catalogue.DEEPFM_MODEL)

READS = (
    catalogue.DATASET,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.TRAINING_FRAME,
    catalogue.FEATURE_META,
    catalogue.ITEM_FEATURES,
    catalogue.ACTED_LISTS,
    catalogue.TOWER_META,
    catalogue.DEEPFM_META,
    *(artefact for sources in (VALID, MEASURED, SERVED) for artefact in vars(sources).values()),
)
WRITES = (catalogue.RANKER_MODEL, catalogue.RANKER_META, catalogue.RANKER_METRICS)


def drawn_rows(block: BoolArray, seed: int) -> Int64Array:
    """At most MOST_ROWS rows of a block in all processes, in order; those that this one holds."""
    rows = np.flatnonzero(block)
    share = Share.of(len(rows))
    drawn = np.sort(np.random.default_rng(seed).permutation(share.total)[:MOST_ROWS])
    return rows[share.rows(torch.from_numpy(drawn)).numpy()]


@dataclass(frozen=True)
class Nets:
    """The two nets of the ranking model, as they are served, and their metrics."""

    like: CandidateNet
    rank: CandidateNet
    metrics: RankerMetrics


def fit_and_measure(impressions: Impressions, parts: Parts, split: UInt8Array, dataset: DatasetDocument) -> Nets:
    """Chooses on valid, measures on test, goes on with test."""
    seed, valid, test = dataset.seed, split == Split.VALID, split == Split.TEST
    funnel = VALID.funnel(parts.train)
    vectors = torch.from_numpy(funnel.knowledge.embeddings())
    rated = rated_items(impressions, funnel, drawn_rows(valid, seed))
    chosen_like = choose_like_epochs(rated, vectors, seed)
    like = new_net(rated, vectors.shape[1], seed)
    _go_on(like, rated, vectors, "pointwise", chosen_like[0], seed)
    lists = lists_of(impressions, funnel, valid)
    chosen, tried = choose_objective(lists, vectors, seed)
    rank = new_net(lists.alone, vectors.shape[1], seed)
    _go_on(rank, lists.to_learn().to_fit(chosen.acted_on), vectors, chosen.objective, chosen.epochs, seed)

    funnel = MEASURED.funnel(parts.training)
    vectors = torch.from_numpy(funnel.knowledge.embeddings())
    rated = rated_items(impressions, funnel, np.flatnonzero(test))
    lists = lists_of(impressions, funnel, test)
    metrics = RankerMetrics(
        dataset=dataset.dataset,
        seed=seed,
        objective=chosen.objective,
        acted_on=chosen.acted_on,
        epochs=chosen.epochs,
        tried=tried,
        test=compare(rank, lists.alone, vectors, seed),
        like_head=like_metrics(like, rated, vectors, chosen_like, seed),
    )
    drawn = np.isin(np.flatnonzero(test), drawn_rows(test, seed))
    _go_on(like, rated.select(drawn), vectors, "pointwise", -(-chosen_like[0] // GOING_ON), seed + 1)
    epochs = -(-chosen.epochs // GOING_ON)
    _go_on(rank, lists.to_learn().to_fit(chosen.acted_on), vectors, chosen.objective, epochs, seed + 1)
    return Nets(like, rank, metrics)


def lists_of(impressions: Impressions, funnel: Funnel, block: BoolArray) -> OfBlock:
    """Both kinds of lists of a block; arguments as for `make_lists`."""
    return OfBlock(make_lists(impressions, funnel, block), lists_acted_on(impressions, funnel, block))


def _go_on(
    net: CandidateNet, lists: TrainingLists, vectors: torch.Tensor, objective: Objective, epochs: int, seed: int
) -> None:
    if epochs:
        fit_net(net, lists, vectors, objective, Schedule[CandidateNet](epochs), seed)


def _said(trial: RankerTrial) -> str:
    return f"{trial.objective}, lists acted on {trial.acted_on:g}" if trial.acted_on else trial.objective


def report(metrics: RankerMetrics) -> None:
    """Prints what was chosen and measured."""
    print(f"data set {metrics.dataset}, {metrics.objective}, {metrics.epochs} epochs; NDCG@10 of lists of candidates:")
    for name, comparison in (
        *((f"valid, {_said(trial)}", trial.valid) for trial in metrics.tried),
        ("test", metrics.test),
    ):
        low, high = comparison.gain_at_10_interval
        print(
            f"  {name:<18} recall's order {comparison.recall_order.ndcg_at_10:.4f}, the ranker's "
            f"{comparison.ranker.ndcg_at_10:.4f} ({low:+.4f} to {high:+.4f}), {comparison.lists:,} lists"
        )
    like = metrics.like_head
    low, high = like.test_auc_gain_interval or (0.0, 0.0)
    print(
        f"like head, {like.epochs} epochs: AUC on test {like.test_auc:.4f}, over DeepFM {low:+.4f} to {high:+.4f}; "
        f"calibration error {like.calibration_error:.4f}"
    )


def main() -> None:
    """Fits, measures, saves the served model: DeepFM, tables, like head and rank net in one."""
    dataset, features = catalogue.DATASET.load(), catalogue.FEATURE_META.load()
    parts = read_parts(dataset)
    rows = rows_of_this_process(catalogue.OFFLINE_IMPRESSIONS, Column.USERID)
    frame = catalogue.TRAINING_FRAME.load(rows=rows)
    others = catalogue.ITEM_FEATURES.load(), catalogue.ACTED_LISTS.load()
    impressions = Impressions.load(dataset.features, Sequences.of(parts.offline), frame, *others)
    split = frame[Column.SPLIT].to_numpy()
    del frame  # a third of what the stage would hold at its peak
    nets = fit_and_measure(impressions, parts, split, dataset)
    served = SERVED.funnel(parts.offline)
    if not is_first():
        return  # what follows is for one process alone
    ranker = Ranker(served.deepfm, CandidateKnowledge(served.knowledge), nets.like, nets.rank)
    document = RankerDocument(
        dataset=dataset.dataset,
        columns=features.columns,
        feature_hash=features.feature_hash,
        settings=served.deepfm.settings,
        vector_dim=served.tower.shape.dim,
        fm_dim=served.knowledge.fm_items.shape[1],
    )
    with writing(WRITES) as out:
        out.save(catalogue.RANKER_MODEL, state_on_cpu(ranker))
        out.save(catalogue.RANKER_META, document)
        out.save(catalogue.RANKER_METRICS, nets.metrics)
    report(nets.metrics)


if __name__ == "__main__":
    run_fitting_stage(main, __file__, READS)
