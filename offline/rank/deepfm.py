"""DeepFM over the declared features: standardisation is its first layer, a raw logit its output."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from data_exchange_center.documents import DeepFmSettings, DeepInputs
from data_exchange_center.features import FeatureSet, declare
from offline.distributed import summed
from offline.lookup import rows_of

FLAG_SIZE = 2


class FieldGroup(nn.Module):
    """Sparse features of one embedding width: their linear terms and their pairwise interactions.

    Features of equal width interact with each other only, so an id's 16 dimensions meet the other id's, and the 2 of
    a side feature those of the other side features.
    """

    looked_up: Tensor
    flags: Tensor
    offsets: Tensor
    summed: Tensor
    one_hot: Tensor

    def __init__(self, positions: list[int], sizes: list[int], dim: int) -> None:
        """Makes one table for all features of the group.

        Args:
            positions: columns of the group in the sparse input.
            sizes: vocabulary of each, unknown counted.
            dim: embedding width.
        """
        super().__init__()
        is_flag = torch.tensor([size == FLAG_SIZE for size in sizes])
        columns = torch.tensor(positions)
        offsets = torch.cumsum(torch.tensor([0, *(size for size in sizes if size != FLAG_SIZE)]), 0)
        self.register_buffer("looked_up", columns[~is_flag], persistent=False)
        self.register_buffer("flags", columns[is_flag], persistent=False)
        self.register_buffer("offsets", offsets[:-1], persistent=False)
        self.register_buffer("summed", torch.eye(dim + 1).repeat(len(sizes), 1), persistent=False)
        self.register_buffer("one_hot", torch.eye(int(is_flag.sum())), persistent=False)
        # The last column is the linear weight: one look-up fetches both.
        self.table = nn.Parameter(torch.randn(int(offsets[-1]), dim + 1) * 0.1 / dim**0.5)
        self.flag_rows = nn.Parameter(torch.randn(int(is_flag.sum()), dim + 1) * 0.1 / dim**0.5)
        with torch.no_grad():
            self.table[:, -1] = 0
            self.flag_rows[:, -1] = 0

    @torch.no_grad()
    def forget_absent(self, blocks: Iterable[Tensor]) -> None:
        """Zeros the rows of ids that occur nowhere in the blocks [n, features]: unfitted, they count as unknown."""
        present = torch.zeros(len(self.table), dtype=torch.bool)
        for sparse in blocks:
            present[(sparse[:, self.looked_up] + self.offsets).flatten()] = True
        self.table[summed(present.int()) == 0] = 0

    def forward(self, sparse: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Interactions of one batch.

        Args:
            sparse: [n, features] int64, all sparse features.

        Returns:
            [n] linear terms; [n] interactions; [n, features of the group × dim] embeddings; [n] squared norms.
        """
        index = sparse.index_select(1, self.looked_up)
        rows = rows_of(self.table, index + self.offsets)
        rows = rows * (index > 0).unsqueeze(2)  # 0 is unknown in every vocabulary, and embeds to zeros
        # A flag is its own one-hot code: a product with the flags is the look-up, without gathering 18 rows a row.
        one_each = (self.one_hot.unsqueeze(2) * self.flag_rows).flatten(1)
        flagged = sparse.index_select(1, self.flags).to(self.table.dtype) @ one_each
        rows = torch.cat([rows.flatten(1), flagged], 1)  # a product of matrices, too, is the sum over the features:
        sums = rows @ self.summed  # a reduction along a middle axis takes twice its time
        embeddings = rows.unflatten(1, (-1, self.flag_rows.shape[1]))[:, :, :-1].flatten(1)
        interactions = 0.5 * (sums[:, :-1].square().sum(1) - embeddings.square().sum(1))
        return sums[:, -1], interactions, embeddings, rows.square().sum(1)


class DeepFM(nn.Module):
    """logit = scale × (bias + linear terms + FM within each group of equal width + MLP) + shift.

    Source: Guo et al., "DeepFM", IJCAI 2017. Here the MLP sees the dense features, and as much of the embeddings as
    `deep_inputs` says. Scale and shift are 1 and 0 until `calibrate`.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(
        self, features: FeatureSet, sizes: Mapping[str, int], hidden: tuple[int, ...], deep_inputs: DeepInputs
    ) -> None:
        """Makes the layers.

        Args:
            features: in the declared order.
            sizes: vocabulary of each sparse feature in the declared order, unknown counted.
            hidden: widths of the MLP's layers.
            deep_inputs: what the MLP sees.
        """
        super().__init__()
        self.features = features
        self.settings = DeepFmSettings(
            categories=features.categories, sizes=dict(sizes), hidden=hidden, deep_inputs=deep_inputs
        )
        by_width: dict[int, list[int]] = defaultdict(list)
        for position, feature in enumerate(features.sparse):
            by_width[feature.embedding_dim].append(position)
        self.widest = max(by_width)
        self.groups = nn.ModuleDict(
            {
                str(dim): FieldGroup(at, [sizes[features.sparse[p].name] for p in at], dim)
                for dim, at in by_width.items()
            }
        )
        self.deep_groups = [
            str(dim)
            for dim in by_width
            if deep_inputs == "dense+all" or (deep_inputs == "dense+side" and dim < self.widest)
        ]
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(len(features.dense)))
        self.register_buffer("std", torch.ones(len(features.dense)))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))
        width = len(features.dense) + sum(int(dim) * len(by_width[int(dim)]) for dim in self.deep_groups)
        layers: list[nn.Module] = []
        for out in hidden:
            layers += [nn.Linear(width, out), nn.ReLU()]
            width = out
        self.mlp = nn.Sequential() if deep_inputs == "none" else nn.Sequential(*layers, nn.Linear(width, 1))

    @classmethod
    def of(cls, settings: DeepFmSettings) -> "DeepFM":
        """Unfitted, with the layers that the settings (another's `settings`) describe."""
        return cls(declare(settings.categories), settings.sizes, settings.hidden, settings.deep_inputs)

    def standardise_by(self, mean: Tensor, std: Tensor) -> None:
        """Takes the standardisation layer's statistics [dense features], those of the training rows."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))  # a constant column becomes 0

    def forget_absent(self, blocks: Callable[[], Iterable[Tensor]]) -> None:
        """See FieldGroup.forget_absent; passes over the blocks once for each group."""
        for group in self.groups.values():
            assert isinstance(group, FieldGroup)
            group.forget_absent(blocks())

    def calibrate(self, scale: float, shift: float) -> None:
        """Makes the sigmoid of the logit a probability that can be believed; it orders as before."""
        self.scale.fill_(scale)
        self.shift.fill_(shift)

    def logits_and_norms(self, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """[n] logits before calibration, and [n] squared norms of the embedding rows used, for the L2 penalty."""
        deep = [(dense - self.mean) / self.std]
        logit, norms = self.bias, self.bias.new_zeros(())
        for dim, group in self.groups.items():
            linear, interactions, embeddings, squared = group(sparse)
            logit = logit + linear + interactions
            norms = norms + squared
            if dim in self.deep_groups:
                deep.append(embeddings)
        if len(self.mlp):
            logit = logit + self.mlp(torch.cat(deep, 1)).squeeze(1)
        return logit, norms

    def forward(self, sparse_features: Tensor, dense_features: Tensor) -> Tensor:
        """Scores candidates.

        Args:
            sparse_features: [n, 23] int64 indices in the declared order.
            dense_features: [n, 36] float32 raw counts in the declared order.

        Returns:
            [n, 1] logits.
        """
        logits, _ = self.logits_and_norms(sparse_features, dense_features)
        return (logits * self.scale + self.shift).unsqueeze(1)


def deepfm_from(settings: DeepFmSettings, state: Mapping[str, Tensor]) -> DeepFM:
    """The model that `settings` (its `DeepFM.settings`) and a state dict describe, ready to score."""
    model = DeepFM.of(settings)
    model.load_state_dict(dict(state))
    return model.eval()
