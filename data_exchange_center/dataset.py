"""What the data set is, as the artefact that all others follow says: its rows, ratings, categories and ids."""

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

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

    lowest: float = 0.5
    highest: float = 5.0
    positive_above: Annotated[float, Field(description="a rating above it is a positive")] = 3.0

    def is_positive(self, rating: float) -> bool:
        """Whether a rating is a positive; compared in single precision, in which the training rows hold it."""
        return bool(np.float32(rating) > np.float32(self.positive_above))


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
