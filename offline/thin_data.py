"""What the models need to be fitted and measured at all, checked before the first of them is."""

import pyarrow as pa
import pyarrow.compute as pc

from data_exchange_center.columns import Column, Split


class ThinDataError(Exception):
    """There is too little to fit or to measure; the message has the rule and the counts."""

    is_expected = True


def check_enough(impressions: pa.Table) -> None:
    """Checks that there is something to learn from, and something to measure on.

    Args:
        impressions: `split` and `label` of the offline rows.

    Raises:
        ThinDataError: the rows to fit, or those of test, lack the one class or the other.
    """
    split, label = impressions[Column.SPLIT], impressions[Column.LABEL]

    def rows(part: int, liked: int) -> int:
        return pc.sum(pc.and_(pc.equal(split, part), pc.equal(label, liked))).as_py() or 0

    parts = (("train", Split.TRAIN), ("valid", Split.VALID), ("test", Split.TEST))
    counts = {name: [rows(part, liked) for liked in (1, 0)] for name, part in parts}
    if min(*counts["train"], *counts["test"]) > 0:
        return
    told = ", ".join(f"{name} {liked:,} liked and {other:,} not" for name, (liked, other) in counts.items())
    raise ThinDataError(
        "too little to fit and to measure a ranking on: `train` and `test` must each hold ratings above 3 (liked) and "
        f"others, and they hold: {told}. The last 10 ratings of each user are the online evaluation, so users need 11 "
        "or more, and two dozen to be in every part. Data without any rating of 3 or less, as clicks are, cannot teach "
        "a ranking what is not liked: give it such ratings."
    )
