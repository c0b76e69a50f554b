"""Fits the factorization machine to either objective, and scores pairs with it."""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional

from data_exchange_center.arrays import Float32Array, Float64Array
from offline.batches import in_memory
from offline.distributed import Share, counted, objective, summed
from offline.fitting import BestEpoch, Schedule, batch_size, run_epochs, training_device
from offline.recall.factorization_machine import FactorizationMachine, full_softmax_loss, sampled_softmax_loss
from offline.recall.interactions import Interactions
from offline.recall.sampled_softmax import draw_items, is_sampled

DIM = 16
RATED_LEARNING_RATE = 0.01
RATED_STEPS = 200  # an epoch at most
RETRIEVAL_USERS = 512  # a step, where there are many
RETRIEVAL_STEPS = 10  # an epoch at least
RETRIEVAL_LEARNING_RATE = 0.03


def new_model(fit: Interactions, seed: int) -> FactorizationMachine:
    """A model to fit; ids that no row of `fit` holds are all zeros, as the unknown one is, and stay so."""
    torch.manual_seed(seed)
    model = FactorizationMachine(fit.user_count, fit.item_count, DIM)
    with torch.no_grad():
        for table, ids in ((model.users, fit.users), (model.items, fit.items)):
            table.weight[torch.from_numpy(counted(np.bincount(ids, minlength=len(table.weight))) == 0)] = 0
    return model.to(training_device())


def fit_rated(
    fit: Interactions, l2: float, schedule: Schedule[FactorizationMachine], seed: int
) -> tuple[FactorizationMachine, BestEpoch]:
    """Log loss on the rated rows.

    Args:
        fit: rows to fit, of which this process holds its share.
        l2: penalty on the embedding rows of the batch (and so by how often an id occurs).
        schedule: at most how many epochs, and what stops earlier.
        seed: of the tables and of the rows' order.

    Returns:
        The model of the best epoch, and that epoch.
    """
    model = new_model(fit, seed)
    device = model.bias.device
    columns = torch.from_numpy(fit.users), torch.from_numpy(fit.items), torch.from_numpy(fit.labels).float()
    batches = in_memory([column.to(device) for column in columns], rated_batch_size)

    def loss_of(users: Tensor, items: Tensor, labels: Tensor, share: float) -> Tensor | None:
        if not len(labels):
            return None
        logits, norms = model(users, items)
        return (functional.binary_cross_entropy_with_logits(logits, labels) + l2 * norms.mean()) * share

    whole_loss = objective(model, loss_of)

    def train_epoch(optimizer: torch.optim.Optimizer) -> None:
        for batch, share in batches.epoch():
            optimizer.zero_grad()
            whole_loss(*batch, share).backward()
            optimizer.step()

    optimizer = torch.optim.Adam(model.parameters(), lr=RATED_LEARNING_RATE, fused=True)
    return model, run_epochs(model, optimizer, train_epoch, batches.steps, schedule, f"FM rated, L2 {l2:.3g}")


def rated_batch_size(rows: int) -> int:
    """Rows a step of `fit_rated`: as for any fit, but for RATED_STEPS an epoch at most."""
    # A step costs all vectors, looked up or not, and their number grows with the rows: were the steps of an epoch to
    # grow as well, ten times the data would cost a hundred times as much.
    return max(batch_size(rows), -(-rows // RATED_STEPS))


def fit_retrieval(
    fit: Interactions, l2: float, schedule: Schedule[FactorizationMachine], seed: int
) -> tuple[FactorizationMachine, BestEpoch]:
    """Softmax of each user's positives over the catalogue: arguments and result as in `fit_rated`."""
    positives = fit.positives()
    # A user without a positive is in no step: zeros recommend by the items' biases, random factors by chance.
    model = new_model(positives, seed)
    frequency = counted(np.bincount(positives.items, minlength=fit.item_count)).astype(np.float64)
    with torch.no_grad():  # the softmax of popularity is where training begins
        model.items.weight[1:, -1] = torch.log(torch.from_numpy((frequency[1:] + 1) / (frequency.sum() + 1)))
    is_large = is_sampled(fit.item_count)
    softmax = _SampledSoftmax(model, l2, frequency) if is_large else _FullSoftmax(model, l2)
    # All positives of one user share its row of scores, so an epoch costs users × items, not positives × items.
    matrix = positives.matrix()
    active = np.flatnonzero(matrix.getnnz(axis=1))
    share = Share.of(len(active))
    size = max(min(RETRIEVAL_USERS, share.total // RETRIEVAL_STEPS), 1)
    whole_loss = objective(model, softmax.loss, uses_all=False)

    def train_epoch(optimizer: torch.optim.Optimizer) -> None:
        for batch in torch.randperm(share.total).split(size):
            users = torch.from_numpy(active)[share.rows(batch)]
            parts = (users, *softmax.batch(matrix[users.numpy()]))
            optimizer.zero_grad()
            whole_loss(*(part.to(model.bias.device) for part in parts)).backward()
            optimizer.step()

    optimizer = torch.optim.Adam(model.parameters(), lr=RETRIEVAL_LEARNING_RATE, fused=True)
    steps = -(-share.total // size)
    return model, run_epochs(model, optimizer, train_epoch, steps, schedule, f"FM retrieval, L2 {l2:.3g}")


class _FullSoftmax:
    """Over the whole catalogue."""

    def __init__(self, model: FactorizationMachine, l2: float) -> None:
        self.model, self.l2 = model, l2

    def batch(self, positives: sp.csr_matrix) -> tuple[Tensor, ...]:
        """What a step needs of its users' positives [b, items]."""
        return (torch.from_numpy(positives.toarray()),)

    def loss(self, users: Tensor, liked: Tensor) -> Tensor:
        """This process's addend of a step's loss."""
        rows, catalogue = self.model.users(users), self.model.items.weight
        norms = rows.square().sum(1) @ liked.sum(1) + catalogue.square().sum(1) @ liked.sum(0)
        likelihood = full_softmax_loss(_with_ones(rows), catalogue[1:], liked[:, 1:])
        return likelihood + self.l2 * norms / summed(liked.sum())


class _SampledSoftmax:
    """Over items that are drawn for each step."""

    def __init__(self, model: FactorizationMachine, l2: float, frequency: Float64Array) -> None:
        drawn_by = frequency**0.75
        drawn_by[1:] += 1e-3 * drawn_by.mean()  # every item of the catalogue can be drawn; the unknown one cannot
        self.model, self.l2, self.drawn_by = model, l2, torch.from_numpy(drawn_by)

    def batch(self, positives: sp.csr_matrix) -> tuple[Tensor, ...]:
        """What a step needs: its positives' users, among those of the step, and items, and the drawn items."""
        rows = np.repeat(np.arange(positives.shape[0]), np.diff(positives.indptr))
        return torch.from_numpy(rows), torch.from_numpy(positives.indices.astype(np.int64)), *draw_items(self.drawn_by)

    def loss(self, users: Tensor, rows: Tensor, positives: Tensor, drawn: Tensor, log_expected: Tensor) -> Tensor:
        """This process's addend of a step's loss."""
        of_users, catalogue = self.model.users(users), self.model.items.weight
        of_items = catalogue.square().sum(1) @ torch.bincount(positives, minlength=len(catalogue)).float()
        norms = of_users.square().sum(1) @ torch.bincount(rows, minlength=len(users)).float() + of_items
        likelihood = sampled_softmax_loss(_with_ones(of_users), catalogue, rows, positives, drawn, log_expected)
        return likelihood + self.l2 * norms / summed(norms.new_tensor(float(len(positives))))


def _with_ones(rows: Tensor) -> Tensor:
    """User rows with their bias, which no softmax over items sees, replaced by the 1 that meets the items' bias."""
    return torch.cat([rows[:, :-1], rows.new_ones(len(rows), 1)], 1)


def score_pairs(user_vectors: Float32Array, item_vectors: Float32Array, pairs: Interactions) -> Float32Array:
    """[n] inner products; for AUC add the users' biases."""
    return np.einsum("nd,nd->n", user_vectors[pairs.users], item_vectors[pairs.items])


@torch.no_grad()
def pair_logits(model: FactorizationMachine, pairs: Interactions) -> Float32Array:
    """[n] FM scores of pairs, on the model's device."""
    device = model.bias.device
    logits, _ = model(torch.from_numpy(pairs.users).to(device), torch.from_numpy(pairs.items).to(device))
    scores: Float32Array = logits.cpu().numpy()
    return scores
