"""Fits the factorization machine to either objective, and scores pairs with it."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_exchange_center.arrays import Float32Array, Float64Array
from offline.batches import in_memory
from offline.distributed import Share, counted, objective, summed
from offline.fitting import BestEpoch, Schedule, TrainEpoch, batch_size, run_epochs, training_device
from offline.recall.factorization_machine import FactorizationMachine, full_softmax_loss, sampled_softmax_loss
from offline.recall.interactions import Interactions

DIM = 16
RATED_LEARNING_RATE = 0.01
RETRIEVAL_USERS = 512  # users a step of the full softmax, where there are many
RETRIEVAL_STEPS = 10  # an epoch at least
RETRIEVAL_PAIRS = 4096  # positives a step of the sampled softmax, and items drawn for it
RETRIEVAL_LEARNING_RATE = 0.03
FULL_SOFTMAX_ITEMS = 20_000  # up to here the whole catalogue fits into every step


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
    batches = in_memory([column.to(device) for column in columns], batch_size)

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
    full = fit.item_count <= FULL_SOFTMAX_ITEMS
    train_epoch, steps_per_epoch = (
        _full_softmax_epoch(model, positives, l2) if full else _sampled_softmax_epoch(model, positives, frequency, l2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=RETRIEVAL_LEARNING_RATE, fused=True)
    return model, run_epochs(model, optimizer, train_epoch, steps_per_epoch, schedule, f"FM retrieval, L2 {l2:.3g}")


def _full_softmax_epoch(model: FactorizationMachine, positives: Interactions, l2: float) -> tuple[TrainEpoch, int]:
    # All positives of one user share its row of scores over the catalogue, so an epoch costs users × items, not
    # positives × items.
    matrix = positives.matrix()
    active = np.flatnonzero(matrix.getnnz(axis=1))
    device = model.bias.device
    share = Share.of(len(active))
    size = max(min(RETRIEVAL_USERS, share.total // RETRIEVAL_STEPS), 1)

    def loss_of(users: Tensor, liked: Tensor) -> Tensor:
        rows, catalogue = model.users(users), model.items.weight
        norms = rows.square().sum(1) @ liked.sum(1) + catalogue.square().sum(1) @ liked.sum(0)
        return full_softmax_loss(_with_ones(rows), catalogue[1:], liked[:, 1:]) + l2 * norms / summed(liked.sum())

    whole_loss = objective(model, loss_of, uses_all=False)

    def train_epoch(optimizer: torch.optim.Optimizer) -> None:
        for batch in torch.randperm(share.total).split(size):
            users = torch.from_numpy(active)[share.rows(batch)]
            liked = torch.from_numpy(matrix[users.numpy()].toarray())
            optimizer.zero_grad()
            whole_loss(users.to(device), liked.to(device)).backward()
            optimizer.step()

    return train_epoch, -(-share.total // size)


def _sampled_softmax_epoch(
    model: FactorizationMachine, positives: Interactions, frequency: Float64Array, l2: float
) -> tuple[TrainEpoch, int]:
    device = model.bias.device
    columns = [torch.from_numpy(column).to(device) for column in (positives.users, positives.items)]
    batches = in_memory(columns, lambda pairs: RETRIEVAL_PAIRS)
    drawn_by = frequency**0.75
    drawn_by[1:] += 1e-3 * drawn_by.mean()  # every item of the catalogue can be drawn; the unknown one cannot
    probability = torch.from_numpy(drawn_by / drawn_by.sum())

    def loss_of(users: Tensor, items: Tensor, drawn: Tensor, log_q: Tensor, share: float) -> Tensor | None:
        if not len(users):
            return None
        rows, positive_rows = model.users(users), model.items(items)
        collision = items[:, None] == drawn[None, :]
        likelihood = sampled_softmax_loss(_with_ones(rows), positive_rows, model.items(drawn), log_q, collision)
        return (likelihood + l2 * (rows.square().sum(1) + positive_rows.square().sum(1)).mean()) * share

    whole_loss = objective(model, loss_of, uses_all=False)

    def train_epoch(optimizer: torch.optim.Optimizer) -> None:
        for (users, items), share in batches.epoch():
            drawn = torch.multinomial(probability, RETRIEVAL_PAIRS, replacement=True)
            log_q = torch.log(probability[drawn] * RETRIEVAL_PAIRS).float()
            optimizer.zero_grad()
            whole_loss(users, items, drawn.to(device), log_q.to(device), share).backward()
            optimizer.step()

    return train_epoch, batches.steps


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
