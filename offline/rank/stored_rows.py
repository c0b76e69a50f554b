"""Rows of the training frame that are read block by block: for frames that do not fit into memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, UInt8Array
from data_exchange_center.columns import Column
from data_exchange_center.features import FeatureSet
from data_exchange_center.table_artefact import ROW_GROUP
from offline.batches import Batches, Columns, from_blocks
from offline.distributed import mean_and_std_of
from offline.fitting import batch_size
from offline.rank.deepfm import DeepFM
from offline.rank.training import Rows

MIB = 1 << 20
BYTES_A_LABEL = 4


@dataclass(frozen=True)
class StoredRows:
    """As Rows, of which a part is in memory at a time.

    Attributes:
        features: of the data set.
        first: the row of the training frame where this process's share begins.
        chosen: [rows of the share] which of them these are.
        labels: [n] of those.
        memory_mib: of the rows that are mixed at a time.
    """

    features: FeatureSet
    first: int
    chosen: BoolArray
    labels: UInt8Array
    memory_mib: int

    def select(self, rows: BoolArray) -> "StoredRows":
        """Those of the rows [n]."""
        chosen = np.zeros_like(self.chosen)
        chosen[self.chosen] = rows
        return StoredRows(self.features, self.first, chosen, self.labels[rows], self.memory_mib)

    def batches(self, device: torch.device) -> Batches:
        """An epoch's batches of sparse and dense features and labels, from mixed blocks."""
        bounds = self._bounds()
        a_row = 4 * len(self.features.sparse_columns) + len(self.features.dense_columns) + BYTES_A_LABEL

        def read(block: int) -> Columns:
            rows = self._read(*bounds[block])
            return rows.sparse, rows.dense, torch.from_numpy(rows.labels).float()

        batches = from_blocks(read, len(bounds), len(self.labels), self.memory_mib * MIB // a_row, batch_size)
        return batches.to(device)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The features in order, at most SCORING_BATCH rows at a time."""
        for first, last in self._bounds():
            yield from self._read(first, last).blocks()

    def prepare(self, model: DeepFM) -> None:
        """As Rows.prepare, in two passes over the blocks or three."""
        model.standardise_by(*mean_and_std_of(dense for _, dense in self.blocks()))
        model.forget_absent(lambda: (sparse for sparse, _ in self.blocks()))

    def _bounds(self) -> list[tuple[int, int]]:
        """The first row and the end of each block with chosen rows, as the table's row groups lie."""
        last = self.first + len(self.chosen)
        cuts = [self.first, *range((self.first // ROW_GROUP + 1) * ROW_GROUP, last, ROW_GROUP), last]
        bounds = zip(cuts, cuts[1:], strict=False)
        held = [(a, b) for a, b in bounds if self.chosen[a - self.first : b - self.first].any()]
        return held or [(self.first, self.first)]

    def _read(self, first: int, last: int) -> Rows:
        columns = [*self.features.columns, Column.LABEL]
        rows = Rows.from_table(catalogue.TRAINING_FRAME.load(columns, (first, last)), self.features)
        return rows.select(self.chosen[first - self.first : last - self.first])
