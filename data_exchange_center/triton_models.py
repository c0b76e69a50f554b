"""The two models in Triton, with the tensors that they take and give: their configuration and their callers follow."""

from dataclasses import dataclass
from typing import Literal

from data_exchange_center.features import DENSE, RECALL_FEATURES, SPARSE
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS

ANY = -1  # a dimension that each request chooses


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


# One row of the batch is a request: a user with any number of candidates.
RANKER = TritonModel(
    "ml_rec",
    (
        Tensor("sparse_features", "INT64", (ANY, len(SPARSE))),
        Tensor("dense_features", "FP32", (ANY, len(DENSE))),
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
