"""The two models in Triton, with the tensors that they take and give: their configuration and their callers follow."""

from dataclasses import dataclass, replace
from typing import Literal

from data_exchange_center.features import RECALL_FEATURES, FeatureSet
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS

ANY = -1  # a dimension that each request chooses
SPARSE, DENSE = -2, -3  # dimensions that the data set chooses: how many features of each kind it has


@dataclass(frozen=True)
class Tensor:
    """A named tensor; `shape` without the batch, which comes first."""

    name: str
    datatype: Literal["INT64", "FP32"]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TritonModel:
    """A model, with its inputs and outputs in the order in which its callers hand and get them."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def of(self, features: FeatureSet) -> "TritonModel":
        """The model of a data set with these features: every dimension is known but those that a request chooses."""
        widths = {SPARSE: len(features.sparse), DENSE: len(features.dense)}
        inputs = (replace(t, shape=tuple(widths.get(size, size) for size in t.shape)) for t in self.inputs)
        return replace(self, inputs=tuple(inputs))


# One row of the batch is a request: a user with any number of candidates.
RANKER = TritonModel(
    "ml_rec",
    (
        Tensor("sparse_features", "INT64", (ANY, SPARSE)),
        Tensor("dense_features", "FP32", (ANY, DENSE)),
        Tensor("recall_features", "FP32", (ANY, len(RECALL_FEATURES))),
        Tensor("recent", "INT64", (RANKER_IMPRESSIONS,)),
        Tensor("liked", "INT64", (RANKER_IMPRESSIONS,)),
    ),
    (Tensor("logit", "FP32", (ANY,)), Tensor("rank_score", "FP32", (ANY,))),
)
# One row is a user.
TOWER = TritonModel(
    "ml_user_tower",
    (Tensor("recent", "INT64", (TOWER_IMPRESSIONS,)), Tensor("liked", "INT64", (TOWER_IMPRESSIONS,))),
    (Tensor("user_vector", "FP32", (ANY,)),),
)
MODELS = (TOWER, RANKER)
