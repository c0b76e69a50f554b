"""Fits the two nets of the ranking model: to lists of candidates, and to rated items as lists of one."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_exchange_center.arrays import BoolArray, Float32Array, Int64Array
from data_exchange_center.documents import Objective
from offline import distributed
from offline.batch_dropout import rows_of_batch
from offline.distributed import Share, summed
from offline.fitting import BestEpoch, Schedule, run_epochs, training_device
from offline.rank.ranker import UNSEEN, CandidateNet

LEARNING_RATE = 0.002
WEIGHT_DECAY = 0.01
LISTS = 64  # a step, at most
STEPS = 40  # an epoch at least
ROWS = 512  # rated items a step, at most
SAMPLED = 64  # candidates of each list that a step looks at: its positives, and others drawn
SCORED_AT_A_TIME = 256


@dataclass(frozen=True)
class TrainingLists:
    """The candidates of l requests, m of each, and what their users liked next.

    Attributes:
        users: [l] user_index.
        features: [l, m, features] float32, the last LIKE_FEATURES or all of Ranker.features.
        candidates: [l, m] item_index, 0 where there is none; best first by recall.
        recent, liked: [l, RANKER_IMPRESSIONS] the user's last impressions before the request.
        labels: [l, m] bool, whether the user liked it within the next impressions.
        relevant: [l] how many items the user liked there, recalled or not.
        weights: [l] float32, what a list counts for in the loss.
    """

    users: Int64Array
    features: Tensor
    candidates: Tensor
    recent: Tensor
    liked: Tensor
    labels: Tensor
    relevant: Int64Array
    weights: Tensor

    def select(self, lists: BoolArray) -> "TrainingLists":
        """Those lists."""
        at = torch.from_numpy(np.flatnonzero(lists))
        return TrainingLists(
            users=self.users[lists],
            features=self.features[at],
            candidates=self.candidates[at],
            recent=self.recent[at],
            liked=self.liked[at],
            labels=self.labels[at],
            relevant=self.relevant[lists],
            weights=self.weights[at],
        )

    def with_positives(self) -> "TrainingLists":
        """The lists that have a positive among their candidates: a softmax over others teaches nothing."""
        return self.select(self.labels.any(1).numpy())

    def weighted(self, weight: float) -> "TrainingLists":
        """These lists, each counting for so much."""
        return replace(self, weights=torch.full_like(self.weights, weight))

    def with_others(self) -> "TrainingLists":
        """The lists that have a candidate besides their positives."""
        return self.select(((self.candidates > 0) & ~self.labels).any(1).numpy())

    def joined(self, others: "TrainingLists") -> "TrainingLists":
        """These lists, and others with the same features; by user, so that several processes have the order of one."""
        if not len(others.users):
            return self  # what follows would take the memory of both
        both = self.empty(len(self.users) + len(others.users))
        place = np.argsort(np.argsort(np.concatenate([self.users, others.users]), kind="stable"))
        both.put(place[: len(self.users)], self)
        both.put(place[len(self.users) :], others)
        return both

    def empty(self, count: int) -> "TrainingLists":
        """So many lists like these, to be filled."""
        return TrainingLists(
            users=np.zeros(count, np.int64),
            features=self.features.new_zeros(count, *self.features.shape[1:]),
            candidates=self.candidates.new_zeros(count, *self.candidates.shape[1:]),
            recent=self.recent.new_zeros(count, *self.recent.shape[1:]),
            liked=self.liked.new_zeros(count, *self.liked.shape[1:]),
            labels=self.labels.new_zeros(count, *self.labels.shape[1:]),
            relevant=np.zeros(count, np.int64),
            weights=self.weights.new_zeros(count),
        )

    def fill(self, start: int, part: "TrainingLists") -> None:
        """Takes over the lists of a part, from the place `start` on."""
        self.put(slice(start, start + len(part.users)), part)

    def put(self, places: slice | Int64Array, part: "TrainingLists") -> None:
        """Takes over the lists of a part, to these places."""
        for name, values in vars(part).items():
            getattr(self, name)[places] = values


def new_net(lists: TrainingLists, dim: int, seed: int) -> CandidateNet:
    """A net to fit, which standardises by the candidates of these lists; `dim` of the tower's item vectors."""
    torch.manual_seed(seed)
    net = CandidateNet(lists.features.shape[2], dim)
    present = lists.features[lists.candidates > 0]
    if Share.of(len(present)).total:
        net.standardise_by(present)
    return net.eval()


def fit_net(
    net: CandidateNet,
    lists: TrainingLists,
    vectors: Tensor,
    objective: Objective,
    schedule: Schedule[CandidateNet],
    seed: int,
) -> BestEpoch:
    """Fits to the positives among the candidates of each list.

    Args:
        net: a new one, or one that goes on with other lists; afterwards that of the best epoch, on the CPU.
        lists: those that this process holds; without any in all of them, the net stays as it is.
        vectors: [items, dim] the item vectors of the tower that made the lists.
        objective: softmax over a list, or a logit for each candidate.
        schedule: when to stop.
        seed: of the draws and of the lists' order.
    """
    torch.manual_seed(seed)
    device = training_device()
    lists = lists.with_positives() if objective == "listwise" else lists
    net, vectors = net.to(device), vectors.to(device)
    share, most = Share.of(len(lists.labels)), max(LISTS, ROWS // lists.labels.shape[1])
    size = max(min(most, share.total // STEPS), 1)

    def loss_of(
        features: Tensor, candidates: Tensor, recent: Tensor, liked: Tensor, labels: Tensor, weights: Tensor
    ) -> Tensor:
        scores = net(features, vectors, candidates, recent, liked)
        return _loss(scores, labels, candidates > 0, weights[:, None], objective)

    whole_loss = distributed.objective(net, loss_of)

    def train_epoch(optimizer: torch.optim.Optimizer) -> None:
        for batch in torch.randperm(share.total).split(size):
            places, rows = share.places(batch), share.rows(batch)
            random = torch.rand(len(batch), lists.labels.shape[1])[places]  # the same in all processes
            drawn, labels = draw_candidates(lists.labels[rows], lists.candidates[rows] > 0, random)
            at = rows[:, None], drawn
            of_lists = lists.recent[rows], lists.liked[rows], labels.float(), lists.weights[rows]
            columns = (lists.features[at], lists.candidates[at], *of_lists)
            optimizer.zero_grad()
            with rows_of_batch(places.to(device), len(batch)):
                loss = whole_loss(*(column.to(device) for column in columns))
            loss.backward()
            optimizer.step()

    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    steps = -(-share.total // size)
    best = run_epochs(net, optimizer, train_epoch, steps, schedule, f"ranking model, {objective}")
    net.cpu().eval()
    return best


def draw_candidates(labels: Tensor, present: Tensor, random: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """[b, SAMPLED] places of all positives and of others drawn at random, and their labels.

    Args:
        labels, present: [b, m] whether the candidate is a positive, and whether there is one.
        random: [b, m] numbers between 0 and 1 to draw by, new ones unless given.
    """
    draw = (torch.rand(labels.shape) if random is None else random) + labels.float() + present.float()
    drawn = draw.topk(min(SAMPLED, labels.shape[1]), dim=1).indices
    return drawn, labels.gather(1, drawn)


def _loss(scores: Tensor, labels: Tensor, present: Tensor, weights: Tensor, objective: Objective) -> Tensor:
    """This process's addend of a step's loss, of [b, m] scores and [b, 1] weights."""
    if objective == "pointwise":
        losses, counted = functional.binary_cross_entropy_with_logits(scores, labels, reduction="none"), present
    else:
        losses, counted = -scores.masked_fill(~present, UNSEEN).log_softmax(1), labels
    # By how many count, whatever their weights: otherwise a weight would be worth more in a batch of few other lists.
    return (losses * counted * weights).sum() / summed(counted.sum())


@torch.no_grad()
def score_lists(net: CandidateNet, lists: TrainingLists, vectors: Tensor) -> Float32Array:
    """[l, m] rank scores."""
    net.eval()
    device = net.first_weight.device
    columns = (lists.features, lists.candidates, lists.recent, lists.liked)
    parts = [
        net(features.to(device), vectors.to(device), *(column.to(device) for column in others)).cpu()
        for features, *others in zip(*(column.split(SCORED_AT_A_TIME) for column in columns), strict=True)
    ]
    scores: Float32Array = torch.cat(parts).numpy()
    return scores
