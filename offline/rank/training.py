"""DeepFM's training loop: whole columns in memory, batches by row numbers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from data_exchange_center.columns import LABEL
from data_exchange_center.features import DENSE_COLUMNS, SPARSE_COLUMNS
from offline.fitting import BestEpoch, batch_size, training_device
from offline.metrics import auc
from offline.rank.deepfm import DeepFM, DeepInputs

SCORING_BATCH = 65_536
EMBEDDING_LEARNING_RATE = 0.01
MLP_LEARNING_RATE = 0.003
HIDDEN = (64, 32)


@dataclass(frozen=True)
class Rows:
    """Features and labels of n rows: sparse [n, 23] int32, dense [n, 36] uint8, labels [n] uint8.

    Kept in the narrow types of the training frame and widened a batch at a time.
    """

    sparse: Tensor
    dense: Tensor
    labels: npt.NDArray[np.uint8]

    @classmethod
    def from_table(cls, frame: pa.Table) -> "Rows":
        """The columns of the training frame, in the declared order."""
        sparse = np.stack([frame[name].to_numpy().astype(np.int32) for name in SPARSE_COLUMNS], axis=1)
        dense = np.stack([frame[name].to_numpy() for name in DENSE_COLUMNS], axis=1)
        return cls(torch.from_numpy(sparse), torch.from_numpy(dense), frame[LABEL].to_numpy())

    def select(self, rows: npt.NDArray[np.bool_]) -> "Rows":
        """Those rows."""
        chosen = torch.from_numpy(np.flatnonzero(rows))
        return Rows(self.sparse[chosen], self.dense[chosen], self.labels[rows])


@dataclass(frozen=True)
class Settings:
    """What is chosen on valid."""

    l2: float
    deep_inputs: DeepInputs


def fit(
    train: Rows, settings: Settings, sizes: dict[str, int], seed: int, epochs: int, valid: Rows | None = None
) -> tuple[DeepFM, BestEpoch]:
    """Minimises the log loss with an L2 penalty on the embedding rows of the batch.

    Args:
        train: rows to fit; the standardisation layer takes its statistics from them.
        settings: penalty and what the MLP sees.
        sizes: of the vocabularies.
        seed: of the weights and of the rows' order.
        epochs: at most so many; exactly so many without `valid`.
        valid: rows whose AUC ends the training.

    Returns:
        The model of the best epoch, on the CPU and ready to score, and that epoch.
    """
    device = training_device()
    torch.manual_seed(seed)
    model = DeepFM(sizes, HIDDEN, settings.deep_inputs)
    model.standardise_by(train.dense)
    model.to(device)
    sparse, dense = train.sparse.to(device), train.dense.to(device)
    labels = torch.from_numpy(train.labels).float().to(device)
    mlp = list(model.mlp.parameters())
    others = [p for name, p in model.named_parameters() if not name.startswith("mlp.")]
    optimizer = torch.optim.Adam(
        [{"params": others, "lr": EMBEDDING_LEARNING_RATE}, {"params": mlp, "lr": MLP_LEARNING_RATE}], fused=True
    )
    best = BestEpoch()
    name = f"DeepFM, {settings.deep_inputs}, L2 {settings.l2:g}"
    with tqdm(range(epochs), desc=name, unit="epoch", leave=False, disable=None) as bar:
        for epoch in bar:
            model.train()
            for rows in torch.randperm(len(labels)).to(device).split(batch_size(len(labels))):
                logits, norms = model.logits_and_norms(sparse[rows].long(), dense[rows].float())
                loss = functional.binary_cross_entropy_with_logits(logits, labels[rows]) + settings.l2 * norms.mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            figure = auc(valid.labels, score(model, valid)) if valid else float(epoch)
            bar.set_postfix(valid=f"{figure:.4f}")
            if best.stop_after(figure, model):
                break
    model.load_state_dict(best.state)
    return model.cpu().eval(), best


@torch.no_grad()
def score(model: DeepFM, rows: Rows) -> npt.NDArray[np.float32]:
    """[n] logits."""
    model.eval()
    device = model.bias.device
    parts = [
        model(sparse.to(device).long(), dense.to(device).float()).squeeze(1).cpu()
        for sparse, dense in zip(rows.sparse.split(SCORING_BATCH), rows.dense.split(SCORING_BATCH), strict=True)
    ]
    logits: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return logits
