"""The JSON artefacts as pydantic models: what a stage measured or decided, for the stages and reports that read it.

Names that hold an @ (recall@50) are the aliases of fields, since they are the field's usual spelling in files.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from data_exchange_center.limits import RECALL_SIZE

Interval = tuple[float, float]  # 95 %, low and high
DeepInputs = Literal["none", "dense", "dense+side", "dense+all"]  # what the MLP sees; none: there is no MLP


class Document(BaseModel):
    """A strict document: a field that is not declared is an error."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)


class Measured(Document):
    """What every metrics file says of itself."""

    dataset: str
    seed: int


class RowCounts(Document):
    """How many ratings there are, by label and by split."""

    ratings: int
    positives: int
    negatives: int
    online: int
    train: Annotated[int, Field(description="training rows, those of valid included")]
    train_of_which_valid: int
    test: int


class DatasetDocument(Measured):
    """The data set that all artefacts were made from."""

    rows: RowCounts
    id_sizes: dict[str, int]  # by userid and itemid: the vocabulary's size, unknown counted
    id_digest: str


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


class FeatureDocument(Document):
    """The features' order, vocabulary sizes and the hash of both."""

    dataset: str
    columns: tuple[str, ...]
    vocabulary_sizes: dict[str, int]
    id_digest: str
    feature_hash: str


class DeepFmSettings(Document):
    """What DeepFM's layers follow from."""

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


class RankingRows(Document):
    """Rows of each part; `training` is train and valid together."""

    train: int
    valid: int
    test: int
    training: int


class ModelMetrics(Measured):
    """All models on test, the weakest first."""

    rows: RankingRows
    popularity: RankingMetrics
    logistic_regression: LogisticRegressionMetrics
    fm: RankingMetrics
    deepfm: DeepFmMetrics


class BlendTrial(Document):
    """One weight of the blend on valid."""

    weight: float
    ndcg_at_50: Annotated[float, Field(alias="ndcg@50")]
    gain_interval: Annotated[Interval, Field(description="of the gain over weight 0")]


class BlendDocument(Document):
    """The weight of DeepFM's logit in the final score, and the weights that it was chosen from."""

    dataset: str
    weight: float
    tried: list[BlendTrial]
