"""A factorization machine on userid and itemid alone, and its two objectives."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_exchange_center.arrays import Float32Array
from offline.distributed import summed
from offline.recall.sampled_softmax import log_chances, sampled_losses


class FactorizationMachine(nn.Module):
    """score(u, i) = bias + bias_u + bias_i + <factors_u, factors_i>.

    Source: Rendle, "Factorization Machines", ICDM 2010, with two one-hot fields. Index 0 is the unknown id: its rows
    stay zero, so that an unknown user gets the items' biases and an unknown item the user's.
    """

    def __init__(self, users: int, items: int, dim: int) -> None:
        """Makes the tables.

        Args:
            users, items: sizes of the vocabularies, unknown counted.
            dim: factors of each id.
        """
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        # The last column of each table is the id's bias: one look-up fetches both.
        self.users = nn.Embedding(users, dim + 1, padding_idx=0)
        self.items = nn.Embedding(items, dim + 1, padding_idx=0)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1 / dim**0.5)
            with torch.no_grad():
                table.weight[:, -1] = 0
                table.weight[0] = 0

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Scores pairs.

        Args:
            users, items: [n] int64 indices.

        Returns:
            [n] logits; [n] squared norm of the rows looked up, for the L2 penalty.
        """
        # Not the modules themselves: on a CPU the gradient of index_select takes a third of the time of embedding's.
        # The row of index 0 needs no mask, since no row that is fitted holds an id outside the vocabulary.
        u, i = self.users.weight.index_select(0, users), self.items.weight.index_select(0, items)
        score = self.bias + u[:, -1] + i[:, -1] + (u[:, :-1] * i[:, :-1]).sum(1)
        return score, u.square().sum(1) + i.square().sum(1)

    @torch.no_grad()
    def vectors(self) -> tuple[Float32Array, Float32Array]:
        """Tables whose inner products equal the scores up to a constant of the user.

        Returns:
            [users, dim + 1] with a last column of ones, and [items, dim + 1] with the item's bias as the last column,
            less the mean of all: <user, item> = score - bias - bias_u - mean bias. What is left out is the same for
            all items of one user, so that neither the order nor a softmax over the items notices. An item outside
            the vocabulary was in no training row: it gets the smallest bias.
        """
        users = self.users.weight.detach().cpu().numpy().copy()
        items = self.items.weight.detach().cpu().numpy().copy()
        users[:, -1] = 1
        items[1:, -1] -= items[1:, -1].mean()
        items[0, -1] = items[1:, -1].min(initial=0)
        return users, items


def full_softmax_loss(users: Tensor, items: Tensor, positives: Tensor) -> Tensor:
    """Negative log likelihood of users' positives under a softmax over the whole catalogue.

    Args:
        users: [b, dim] user vectors.
        items: [items, dim] item vectors, row 0 (unknown) left out.
        positives: [b, items] multi-hot.

    Returns:
        Mean over the positives; of several processes, this one's addend of it.
    """
    log_likelihood = functional.log_softmax(users @ items.T, dim=1)
    return -(log_likelihood * positives).sum() / summed(positives.sum())


def sampled_softmax_loss(
    users: Tensor, items: Tensor, rows: Tensor, positives: Tensor, drawn: Tensor, log_expected: Tensor
) -> Tensor:
    """The same estimated from shared negatives, for catalogues too large for the full softmax; see sampled_softmax.py.

    Args:
        users: [b, dim] user vectors.
        items: [items, dim] item vectors.
        rows, positives: [n] the positives' users among the b, and their items.
        drawn, log_expected: [d] distinct items, and the log of each one's chance to be among them.
    """
    scores = torch.addmm(-log_expected, users, items.index_select(0, drawn).T)
    positive = (users.index_select(0, rows) * items.index_select(0, positives)).sum(1)
    losses = sampled_losses(scores, rows, positive, log_chances(drawn, log_expected, len(items))[positives])
    return losses.sum() / summed(losses.new_tensor(float(len(losses))))
