"""DeepFM's training loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from data_exchange_center.arrays import BoolArray, Float32Array, UInt8Array
from data_exchange_center.columns import Column
from data_exchange_center.documents import DeepInputs
from data_exchange_center.features import FeatureSet
from data_exchange_center.tables import to_matrix
from offline.batches import Batches, in_memory
from offline.distributed import gathered, mean_and_std, objective
from offline.fitting import BestEpoch, Schedule, batch_size, run_epochs, training_device
from offline.rank.deepfm import DeepFM

SCORING_BATCH = 65_536
EMBEDDING_LEARNING_RATE = 0.0075
MLP_LEARNING_RATE = 0.003
HIDDEN = (64, 32)


@dataclass(frozen=True)
class Rows:
    """Features and labels of n rows: sparse [n, 23] int32, dense [n, 36] uint8, labels [n] uint8.

    Kept in the narrow types of the training frame and widened a batch at a time.
    """

    features: FeatureSet
    sparse: Tensor
    dense: Tensor
    labels: UInt8Array

    @classmethod
    def from_table(cls, frame: pa.Table, features: FeatureSet) -> "Rows":
        """The columns of the training frame, in the declared order."""
        sparse, dense = to_matrix(frame, features.sparse_columns, np.int32), to_matrix(frame, features.dense_columns)
        labels = frame[Column.LABEL].to_numpy().copy()  # Arrow's own memory is read-only, which torch warns of
        return cls(features, torch.from_numpy(sparse), torch.from_numpy(dense), labels)

    def select(self, rows: BoolArray) -> "Rows":
        """Those rows."""
        chosen = torch.from_numpy(np.flatnonzero(rows))
        return Rows(self.features, self.sparse[chosen], self.dense[chosen], self.labels[rows])

    def batches(self, device: torch.device) -> Batches:
        """Of sparse and dense features and labels, from the device's memory."""
        labels = torch.from_numpy(self.labels).float()
        return in_memory([column.to(device) for column in (self.sparse, self.dense, labels)], batch_size)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The features in order, at most SCORING_BATCH rows at a time."""
        return zip(self.sparse.split(SCORING_BATCH), self.dense.split(SCORING_BATCH), strict=True)

    def prepare(self, model: DeepFM) -> None:
        """Gives a model that is to be fitted to these rows their statistics."""
        model.standardise_by(*mean_and_std(self.dense.float()))
        model.forget_absent(lambda: [self.sparse])


class FrameRows(Protocol):
    """What a fit asks of its rows: Rows, or StoredRows in stored_rows.py."""

    @property
    def features(self) -> FeatureSet:
        """In the declared order."""

    @property
    def labels(self) -> UInt8Array:
        """[n]."""

    def select(self, rows: BoolArray) -> "FrameRows":
        """Those rows."""

    def batches(self, device: torch.device) -> Batches:
        """Of sparse and dense features and labels."""

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Sparse and dense features in order."""

    def prepare(self, model: DeepFM) -> None:
        """Gives a model that is to be fitted to these rows their statistics."""


@dataclass(frozen=True)
class HyperParameters:
    """DeepFM's hyper-parameters, chosen on valid: the L2 penalty, and what the MLP sees."""

    l2: float
    deep_inputs: DeepInputs


def fit(
    rows: FrameRows, hyper_parameters: HyperParameters, sizes: dict[str, int], schedule: Schedule[DeepFM], seed: int
) -> tuple[DeepFM, BestEpoch]:
    """Minimises the log loss with an L2 penalty on the embedding rows of the batch.

    Args:
        rows: to fit, of which this process holds its share; the standardisation layer takes its statistics from them.
        hyper_parameters: penalty and what the MLP sees.
        sizes: of the vocabularies.
        schedule: when to stop.
        seed: of the weights and of the rows' order.

    Returns:
        The model of the best epoch, on the CPU and ready to score, and that epoch.
    """
    device = training_device()
    torch.manual_seed(seed)
    model = DeepFM(rows.features, sizes, HIDDEN, hyper_parameters.deep_inputs)
    rows.prepare(model)
    model.to(device)
    batches = rows.batches(device)
    mlp = list(model.mlp.parameters())
    others = [p for name, p in model.named_parameters() if not name.startswith("mlp.")]
    optimizer = torch.optim.Adam(
        [{"params": others, "lr": EMBEDDING_LEARNING_RATE}, {"params": mlp, "lr": MLP_LEARNING_RATE}], fused=True
    )

    def loss_of(sparse: Tensor, dense: Tensor, labels: Tensor, share: float) -> Tensor | None:
        if not len(labels):
            return None
        logits, norms = model.logits_and_norms(sparse.long(), dense.float())
        loss = functional.binary_cross_entropy_with_logits(logits, labels) + hyper_parameters.l2 * norms.mean()
        return loss * share

    whole_loss = objective(model, loss_of)

    def train_epoch(optimizer: torch.optim.Optimizer) -> None:
        for columns, share in batches.epoch():
            optimizer.zero_grad()
            whole_loss(*columns, share).backward()
            optimizer.step()

    name = f"DeepFM, {hyper_parameters.deep_inputs}, L2 {hyper_parameters.l2:.3g}"
    best = run_epochs(model, optimizer, train_epoch, batches.steps, schedule, name)
    return model.cpu().eval(), best


@torch.no_grad()
def score(model: DeepFM, rows: FrameRows) -> Float32Array:
    """[n] logits."""
    model.eval()
    device = model.bias.device
    parts = [
        model(sparse.to(device).long(), dense.to(device).float()).squeeze(1).cpu() for sparse, dense in rows.blocks()
    ]
    logits: Float32Array = torch.cat(parts).numpy()
    return logits


def score_all(model: DeepFM, rows: FrameRows) -> Float32Array:
    """[n] logits of the rows of all processes, of which each scores those that it holds."""
    logits: Float32Array = gathered(score(model, rows))
    return logits
