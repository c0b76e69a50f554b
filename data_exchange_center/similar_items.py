"""What offline and online share of similar items: how many there are of each, and what the stage measured."""

from typing import Annotated, Literal

from pydantic import Field

from data_exchange_center.dataset import Document, Measured
from data_exchange_center.documents import Interval, VectorRecallRows

NEIGHBOURS = 100  # of an item at most: twice the longest answer, since a user may have seen some of them
MOST_SIMILAR = 50  # items that one answer lists
MEASURED_AT = 20  # places of the list that the metrics look at

After = Literal["likes", "impressions"]


class SimilarItemsSettings(Document):
    """How neighbours are scored; see offline/recall/neighbours.py."""

    after: Annotated[After, Field(description="whether items follow the likes alone, or every impression")] = (
        "impressions"
    )
    decay: Annotated[float, Field(description="a like so many places later counts places ** -decay")] = 1.0
    prior_weight: Annotated[float, Field(description="likes' worth of belief in the vectors")] = 10.0
    sharpness: Annotated[float, Field(description="of the vectors' softmax: the factor of the cosine")] = 5.0


class SimilarItemsTrial(Document):
    """One choice on valid."""

    settings: SimilarItemsSettings
    recall: Annotated[float, Field(alias=f"recall@{MEASURED_AT}")]


class CoPopularityTrial(Document):
    """One window of the baseline on valid."""

    window: Annotated[int, Field(description="of a like's next likes, so many count")]
    recall: Annotated[float, Field(alias=f"recall@{MEASURED_AT}")]


class SimilarItemsRecall(Document):
    """Recall of one way to find similar items, averaged over users, with its interval, and what the blend gains."""

    recall: Annotated[float, Field(alias=f"recall@{MEASURED_AT}")]
    interval: Interval
    gain_of_blend: Annotated[float | None, Field(description="over this one, on the same users")] = None
    gain_interval: Interval | None = None


class SimilarItemsMetrics(Measured):
    """Similar items chosen on valid and measured on test, beside what they should beat.

    Each like with another like of its user after it, in the same part, is a query; the next `horizon` likes of that
    part are its relevant items. A user's recall is the mean over their queries.
    """

    rows: VectorRecallRows
    horizon: int
    queries: int
    users: int
    chosen: SimilarItemsSettings
    tried: list[SimilarItemsTrial]
    co_popularity_window: int
    co_popularity_tried: list[CoPopularityTrial]
    blend: SimilarItemsRecall
    co_occurrence: Annotated[SimilarItemsRecall, Field(description="the blend without vectors")]
    vectors: Annotated[SimilarItemsRecall, Field(description="the blend without co-occurrence")]
    co_popularity: Annotated[SimilarItemsRecall, Field(description="likes that follow a like, counted")]
    popularity: SimilarItemsRecall
