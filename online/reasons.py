"""Why an item is in a list: which of the items that the user liked lately it is most like.

Likeness is the cosine of the item vectors, by which the user tower makes the user's vector and recall finds candidates.
It says what led in this direction, not what caused the score: the ranking model looks at more than vectors.
"""

from collections.abc import Sequence

import numpy as np

from data_exchange_center.arrays import Int64Array
from online.callers.types import Impression
from online.diversity import directions
from online.serving_data import ServingData

MOST_REASONS = 3  # of an item


def reasons(itemids: Sequence[int], recent: Sequence[Impression], data: ServingData) -> list[list[tuple[int, float]]]:
    """For each item, the liked items that it is most like, with the cosine, the most alike first.

    An item that is like none, as one that the model does not know, has no reason: the cosine is to be above 0.

    Args:
        itemids: of the list.
        recent: the user's last impressions.
        data: the items' vectors, and which ratings are positives.
    """
    positive = data.scale.are_positive([impression.rating for impression in recent])
    liked = list(dict.fromkeys(i.itemid for i, is_liked in zip(recent, positive, strict=True) if is_liked))
    if not liked or not itemids:
        return [[] for _ in itemids]
    likeness = np.einsum("id,ld->il", directions(data.vectors_of(itemids)), directions(data.vectors_of(liked)))
    nearest: Int64Array = np.argsort(-likeness, axis=1, kind="stable")[:, :MOST_REASONS]
    return [
        [(liked[place], float(row[place])) for place in places if row[place] > 0]
        for row, places in zip(likeness, nearest.tolist(), strict=True)
    ]
