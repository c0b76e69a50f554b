"""What the data set is, as the artefact that all others follow says: its rows, ratings, categories and ids."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from data_exchange_center.arrays import BoolArray, Float32Array
from data_exchange_center.features import FeatureSet, declare
from data_exchange_center.vocabularies import Categories


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
    repeated: Annotated[int, Field(description="dropped beforehand: the user rated the item again later")] = 0


class RatingScale(Document):
    """What ratings the data set has, and which of them are positives."""

    lowest: float
    highest: float
    positive_above: Annotated[float, Field(description="a rating above it is a positive")]

    def are_positive(self, ratings: Sequence[float] | Float32Array) -> BoolArray:
        """[n] whether each rating is a positive; compared in single precision, in which the training rows hold it."""
        return np.asarray(ratings, np.float32) > np.float32(self.positive_above)


MOVIELENS_SCALE = RatingScale(lowest=0.5, highest=5.0, positive_above=3.0)


class DatasetDocument(Measured):
    """The data set that all artefacts were made from."""

    rows: RowCounts
    scale: RatingScale
    online_rows: Annotated[int, Field(description="last rows of each user, kept for the online evaluation")]
    categories: Categories
    text_ids: Annotated[
        tuple[str, ...], Field(description="those of userid and itemid that are text; see external_ids.py")
    ] = ()
    id_sizes: dict[str, int]  # by userid and itemid: the vocabulary's size, unknown counted
    id_digest: str

    @property
    def features(self) -> FeatureSet:
        """The ranking model's features, which follow from the categories."""
        return declare(self.categories)

    @property
    def vocabulary_sizes(self) -> dict[str, int]:
        """Rows of each sparse feature's embedding table, in the features' order."""
        return self.features.vocabulary_sizes(self.id_sizes)

    @property
    def feature_hash(self) -> str:
        """The fingerprint of features, sizes and ids that a model and its callers must agree on."""
        return self.features.hash(self.vocabulary_sizes, self.id_digest)
