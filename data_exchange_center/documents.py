"""The JSON artefacts as pydantic models: what a stage measured or decided, for the stages and reports that read it.

Names that hold an @ (recall@50) are the aliases of fields, since they are the field's usual spelling in files.
"""

from typing import Annotated, Literal

from pydantic import Field

from data_exchange_center.dataset import Document, Measured, RowCounts
from data_exchange_center.limits import RECALL_SIZE, TOWER_IMPRESSIONS
from data_exchange_center.vocabularies import Categories

Interval = tuple[float, float]  # 95 %, low and high
Objective = Literal["listwise", "pointwise"]  # of the ranker: softmax over a list, or a logit for each candidate
DeepInputs = Literal["none", "dense", "dense+side", "dense+all"]  # what the MLP sees; none: there is no MLP


class TermRecallMetrics(Measured):
    """Term recall on test, over the users that have a positive there."""

    rows: RowCounts
    users: int
    users_with_terms: int
    hit_rate: Annotated[float, Field(alias=f"hit_rate@{RECALL_SIZE}")]
    recall: Annotated[float, Field(alias=f"recall@{RECALL_SIZE}")]


class Trial(Document):
    """One fit of a hyper-parameter tuning."""

    params: dict[str, float | str]
    valid: Annotated[float, Field(description="the best value of the metric on valid")]
    pruned: bool
    curve: Annotated[list[float], Field(description="the metric on valid after each epoch")]


class RetrievalMetrics(Document):
    """AUC on the rated rows of test, and recall of its positives over the whole catalogue."""

    test_auc: float
    test_auc_interval: Interval
    recall_at_50: Annotated[float, Field(alias="recall@50")]
    recall_at_200: Annotated[float, Field(alias="recall@200")]


class FittedFmMetrics(RetrievalMetrics):
    """The same of an FM, with what its tuning chose."""

    l2: float
    epochs: int
    tried: list[Trial]


class RatedFmMetrics(FittedFmMetrics):
    """The FM fitted to the rated rows."""

    valid_auc: float


class RetrievalFmMetrics(FittedFmMetrics):
    """The FM fitted to retrieve a user's positives."""

    valid_recall_at_50: Annotated[float, Field(alias="valid_recall@50")]


class VectorRecallRows(Document):
    """Rows of each part."""

    train: int
    valid: int
    test: int


class VectorRecallMetrics(Measured):
    """AUC and recall of both FMs and of popularity."""

    rows: VectorRecallRows
    rated: RatedFmMetrics
    retrieval: RetrievalFmMetrics
    popularity: RetrievalMetrics


class TowerShape(Document):
    """What a sequence tower is made of."""

    dim: Annotated[int, Field(description="of the item vectors; exported vectors have one more")] = 64
    heads: int = 4
    window: Annotated[int, Field(description="impressions looked back over")] = TOWER_IMPRESSIONS
    content: Annotated[bool, Field(description="whether weights depend on the items, or on lag and liking alone")] = (
        True
    )
    dropout: float = 0.2


class TowerDocument(Document):
    """What the tower's state dict needs."""

    dataset: str
    items: Annotated[int, Field(description="size of the vocabulary, unknown counted")]
    id_digest: Annotated[str, Field(description="of the ids behind the indices")]
    shape: TowerShape


class RecallComparison(Document):
    """Recall of one set of vectors over the whole catalogue, and its gain over the FM's with the interval."""

    recall_at_50: Annotated[float, Field(alias="recall@50")]
    recall_at_200: Annotated[float, Field(alias="recall@200")]
    gain_at_50: Annotated[float, Field(alias="gain@50")]
    gain_at_50_interval: Annotated[Interval, Field(alias="gain@50_interval")]


class SequenceRecallMetrics(Measured):
    """The tower beside the FM of retrieval: chosen on valid, measured on test."""

    rows: VectorRecallRows
    shape: TowerShape
    epochs: int
    curve: Annotated[list[float], Field(description="Recall@50 on valid after each epoch")]
    valid: RecallComparison
    test: RecallComparison


class FeatureDocument(Document):
    """The features' order, vocabulary sizes and the hash of both."""

    dataset: str
    columns: tuple[str, ...]
    vocabulary_sizes: dict[str, int]
    id_digest: str
    feature_hash: str


class DeepFmSettings(Document):
    """What DeepFM's layers follow from."""

    categories: Annotated[Categories, Field(description="what the features follow from")]
    sizes: dict[str, int]
    hidden: tuple[int, ...]
    deep_inputs: DeepInputs


class DeepFmDocument(Document):
    """What DeepFM's state dict needs: the features in order, their hash, and the layers."""

    dataset: str
    columns: tuple[str, ...]
    feature_hash: str
    settings: DeepFmSettings


class RankingMetrics(Document):
    """One model on the rated rows of test."""

    test_auc: float
    test_auc_interval: Interval
    log_loss: float
    calibration_error: float
    test_auc_gain_interval: Annotated[Interval | None, Field(description="over the model listed before")] = None


class LogisticRegressionMetrics(RankingMetrics):
    """The baseline on the two ids, with what was chosen on valid."""

    valid_auc: float
    c: Annotated[float, Field(description="inverse penalty")]


class Reliability(Document):
    """Predicted probability against the share of positives, by bins of equal width."""

    error: float
    predicted: list[float]
    observed: list[float]
    rows: list[int]


class PlattScaling(Document):
    """The calibration of the logit, and the error before it."""

    scale: float
    shift: float
    error_before: float


class DeepFmMetrics(RankingMetrics):
    """DeepFM, with what its tuning chose."""

    valid_auc: float
    l2: float
    deep_inputs: DeepInputs
    epochs: int
    calibration: PlattScaling
    reliability: Reliability
    tried: list[Trial]


class RankingRows(VectorRecallRows):
    """Rows of each part; `training` is train and valid together."""

    training: int


class ModelMetrics(Measured):
    """All models on test, the weakest first."""

    rows: RankingRows
    popularity: RankingMetrics
    logistic_regression: LogisticRegressionMetrics
    fm: RankingMetrics
    deepfm: DeepFmMetrics


class RankerDocument(DeepFmDocument):
    """What the ranking model's state dict needs: what DeepFM's does, and two widths."""

    vector_dim: Annotated[int, Field(description="of the tower's item vectors without their bias")]
    fm_dim: Annotated[int, Field(description="of the retrieval FM's vectors")]


class ListMetrics(Document):
    """How well lists of candidates are ordered, over lists with a positive among the user's next impressions."""

    ndcg_at_10: Annotated[float, Field(alias="ndcg@10")]
    ndcg_at_50: Annotated[float, Field(alias="ndcg@50")]
    recall_at_50: Annotated[float, Field(alias="recall@50")]


class RankerComparison(Document):
    """The ranker's order beside recall's on the same lists."""

    lists: int
    recall_at_200: Annotated[float, Field(alias="recall@200", description="of the candidates, in whatever order")]
    recall_order: ListMetrics
    ranker: ListMetrics
    gain_at_10: Annotated[float, Field(alias="gain_ndcg@10")]
    gain_at_10_interval: Annotated[Interval, Field(alias="gain_ndcg@10_interval")]


class RankerTrial(Document):
    """One objective on valid: fitted to the lists of one half of the users, evaluated on those of the other."""

    objective: Objective
    acted_on: Annotated[float, Field(description="what a list that was shown and acted on counts for in the fit")]
    epochs: int
    curve: Annotated[list[float], Field(description="NDCG@10 on valid after each epoch")]
    valid: RankerComparison


class LikeHeadMetrics(RankingMetrics):
    """The served logit's head on the rated rows of test, fitted to those of valid; the gain is over DeepFM."""

    epochs: Annotated[int, Field(description="0 where valid shows no gain over DeepFM, whose logit is served then")]
    valid_auc: Annotated[float, Field(description="on the rows of the users that the fit has not seen")]
    valid_auc_of_deepfm: Annotated[float, Field(description="on the same rows")]
    reliability: Reliability


class RankerMetrics(Measured):
    """The ranking model: chosen on valid, measured on test by a model that has seen the rows of valid alone."""

    objective: Objective
    acted_on: Annotated[float, Field(description="as in the chosen one of `tried`")]
    epochs: int
    tried: list[RankerTrial]
    test: RankerComparison
    like_head: LikeHeadMetrics
