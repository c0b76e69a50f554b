"""Chooses on valid how the two nets of the ranking model are fitted, and measures what they are worth."""

from dataclasses import asdict, dataclass

import numpy as np
import torch

from data_exchange_center.arrays import BoolArray, FloatArray, Int64Array
from data_exchange_center.documents import (
    LikeHeadMetrics,
    ListMetrics,
    Objective,
    RankerComparison,
    RankerTrial,
    Reliability,
)
from offline.distributed import agreed, gathered, summed
from offline.fitting import Schedule
from offline.metrics import Bootstrap, auc, calibration, interval, log_loss
from offline.rank.ranker import CandidateNet
from offline.rank.ranker_training import TrainingLists, fit_net, new_net, score_lists
from offline.retrieval_metrics import ndcg_of_hits

OBJECTIVES: tuple[Objective, ...] = ("listwise", "pointwise")
ACTED_ON = (0.1, 1.0)  # what a list that was acted on may count for, beside 0
MOST_EPOCHS = 8
PATIENCE, MINIMUM_GAIN = 2, 5e-4  # of NDCG@10, and of AUC


def list_metrics(scores: FloatArray, lists: TrainingLists) -> dict[str, FloatArray]:
    """[l] NDCG@10, NDCG@50 and Recall@50 of each list that has a positive among the user's next impressions.

    Args:
        scores: [l, m] by which the candidates are ordered, ties in the order of recall.
        lists: l of them; a positive that recall missed counts in the ideal list.
    """
    order = np.argsort(np.where(lists.candidates.numpy() > 0, -scores, np.inf), axis=1, kind="stable")
    hits = np.take_along_axis(lists.labels.numpy(), order, axis=1)
    metrics = {f"ndcg@{k}": ndcg_of_hits(hits, lists.relevant, k) for k in (10, 50)}
    metrics["recall@50"] = hits[:, :50].sum(axis=1) / np.maximum(lists.relevant, 1)
    return {name: values[lists.relevant > 0] for name, values in metrics.items()}


def compare(net: CandidateNet, lists: TrainingLists, vectors: torch.Tensor, seed: int) -> RankerComparison:
    """The ranker's order beside recall's, on the lists of all processes."""
    counted = lists.relevant > 0
    users = gathered(lists.users[counted])
    if not len(users):
        nothing = ListMetrics(ndcg_at_10=0, ndcg_at_50=0, recall_at_50=0)
        return RankerComparison(
            lists=0, recall_at_200=0, recall_order=nothing, ranker=nothing, gain_at_10=0, gain_at_10_interval=(0, 0)
        )
    recall, ranker = (
        list_metrics(scores, lists) for scores in (np.zeros(lists.labels.shape), score_lists(net, lists, vectors))
    )
    recall, ranker = ({name: gathered(values) for name, values in metrics.items()} for metrics in (recall, ranker))
    gain = ranker["ndcg@10"] - recall["ndcg@10"]
    found = gathered(lists.labels.numpy().sum(axis=1)[counted] / lists.relevant[counted])
    of_recall, of_ranker = (
        ListMetrics.model_validate({name: float(values.mean()) for name, values in metrics.items()})
        for metrics in (recall, ranker)
    )
    return RankerComparison(
        lists=len(users),
        recall_at_200=float(found.mean()),
        recall_order=of_recall,
        ranker=of_ranker,
        gain_at_10=float(gain.mean()),
        gain_at_10_interval=interval(Bootstrap(users, seed).means(gain)),
    )


@dataclass(frozen=True)
class OfBlock:
    """The lists of a block of rows.

    Attributes:
        alone: labelled by what users found themselves: to be fitted to, and the measure.
        acted_on: labelled by what they chose of what they were shown: to be fitted to at most.
    """

    alone: TrainingLists
    acted_on: TrainingLists

    def to_learn(self) -> "OfBlock":
        """Those that teach something."""
        return OfBlock(self.alone.with_positives(), self.acted_on.with_positives().with_others())

    def to_fit(self, weight: float) -> TrainingLists:
        """All of them; each one acted on counts for so much, and at 0 there are none of these."""
        return self.alone.joined(self.acted_on.weighted(weight)) if weight else self.alone

    def of_half(self) -> "OfBlock":
        """Those of the users that a choice is fitted to."""
        return OfBlock(*(lists.select(half_of_users(lists.users)) for lists in (self.alone, self.acted_on)))


def choose_objective(lists: OfBlock, vectors: torch.Tensor, seed: int) -> tuple[RankerTrial, list[RankerTrial]]:
    """The best trial, and all of them: each objective, then the better one with lists that were acted on.

    What of these lists was chosen follows from what was shown, and tells what a user prefers among it. Whether that
    helps to find what they find alone, the lists of valid say; where valid has none of the others, they are left out.
    """
    tried = [try_objective(objective, 0.0, lists, vectors, seed) for objective in OBJECTIVES]
    best = max(tried, key=_ndcg)
    if summed(lists.acted_on.labels.sum()):
        tried += [try_objective(best.objective, weight, lists, vectors, seed) for weight in ACTED_ON]
    return max(tried, key=_ndcg), tried


def _ndcg(trial: RankerTrial) -> float:
    return trial.valid.ranker.ndcg_at_10


def try_objective(
    objective: Objective, acted_on: float, lists: OfBlock, vectors: torch.Tensor, seed: int
) -> RankerTrial:
    """Fits to the lists of one half of the users, and stops by NDCG@10 on those of the other.

    Args:
        objective: what to fit by.
        acted_on: what a list that was acted on counts for.
        lists: of valid.
        vectors, seed: as for `fit_net`.
    """
    half, held_out = lists.of_half().to_learn(), lists.alone.select(~half_of_users(lists.alone.users))

    def ndcg(net: CandidateNet) -> float:
        values = gathered(list_metrics(score_lists(net, held_out, vectors), held_out)["ndcg@10"])
        return float(values.mean()) if len(values) else 0.0

    net = new_net(half.alone, vectors.shape[1], seed)  # standardised alike, whatever the lists acted on count for
    schedule = Schedule(MOST_EPOCHS, ndcg, PATIENCE, MINIMUM_GAIN)
    best = fit_net(net, half.to_fit(acted_on), vectors, objective, schedule, seed)
    return RankerTrial(
        objective=objective,
        acted_on=acted_on,
        epochs=best.epochs,
        curve=best.curve,
        valid=compare(net, held_out, vectors, seed),
    )


def half_of_users(users: Int64Array) -> BoolArray:
    """[n] whether a row is of the half of the users that a choice is fitted to; the other half evaluates it."""
    return users % 2 == 0


def rated_auc(net: CandidateNet, rated: TrainingLists, vectors: torch.Tensor) -> float:
    """AUC of a like head on the rated items of all processes."""
    return auc(gathered(rated.relevant), gathered(score_lists(net, rated, vectors)[:, 0]))


def choose_like_epochs(rated: TrainingLists, vectors: torch.Tensor, seed: int) -> tuple[int, float, float]:
    """The epochs of the like head, its AUC with them, and DeepFM's; on the rows of the users that were not fitted.

    Without a gain over DeepFM there are 0 epochs.
    """
    fitted = half_of_users(rated.users)
    fit, held_out = rated.select(fitted), rated.select(~fitted)
    net = new_net(fit, vectors.shape[1], seed)
    before = agreed(rated_auc(net, held_out, vectors))
    schedule = Schedule[CandidateNet](
        MOST_EPOCHS, lambda model: rated_auc(model, held_out, vectors), PATIENCE, MINIMUM_GAIN
    )
    best = fit_net(net, fit, vectors, "pointwise", schedule, seed)
    return (best.epochs, best.value, before) if best.value > before + MINIMUM_GAIN else (0, before, before)


def like_metrics(
    net: CandidateNet, rated: TrainingLists, vectors: torch.Tensor, chosen: tuple[int, float, float], seed: int
) -> LikeHeadMetrics:
    """The like head's metrics on the rated items of all processes, beside DeepFM's logit."""
    labels, deepfm = gathered(rated.relevant.astype(np.uint8)), gathered(rated.features[:, 0, 0].numpy())
    logits, bootstrap = gathered(score_lists(net, rated, vectors)[:, 0]), Bootstrap(gathered(rated.users), seed)
    drawn, reliability = bootstrap.aucs(labels, logits), calibration(labels, logits)
    epochs, valid_auc, of_deepfm = chosen
    return LikeHeadMetrics(
        test_auc=auc(labels, logits),
        test_auc_interval=interval(drawn),
        log_loss=log_loss(labels, logits),
        calibration_error=reliability.error,
        test_auc_gain_interval=interval(drawn - bootstrap.aucs(labels, deepfm)),
        epochs=epochs,
        valid_auc=valid_auc,
        valid_auc_of_deepfm=of_deepfm,
        reliability=Reliability(**asdict(reliability)),
    )
