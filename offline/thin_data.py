"""What the models need to be fitted and measured at all, checked before the first of them is."""

from collections.abc import Mapping

from data_exchange_center.arrays import UInt8Array
from data_exchange_center.dataset import RatingScale

ROWS_FOR_ALL_PARTS = 12  # offline rows of a user: 10 training rows, the last of which is of valid, and 2 of test


# Of the rows of `train` (those of valid apart), `valid` and `test`: 1 where liked; and how many were liked and not.
Labels = Mapping[str, UInt8Array]
Counts = Mapping[str, tuple[int, int]]


class ThinDataError(Exception):
    """There is too little to fit or to measure; the message has the rule and the counts."""

    is_expected = True


def lack(counts: Counts, scale: RatingScale, online_rows: int) -> str | None:
    """What the data lack, as a sentence with the rule and the counts; None where there is enough.

    Args:
        counts: of each part.
        scale: which ratings are liked.
        online_rows: of each user, kept for the online evaluation.
    """
    if min(*counts["train"], *counts["test"]) > 0:
        return None
    told = ", ".join(f"{name} {liked:,} liked and {other:,} not" for name, (liked, other) in counts.items())
    above, for_all = f"{scale.positive_above:g}", online_rows + ROWS_FOR_ALL_PARTS
    return (
        "too little to fit and to measure a ranking on: `train` and `test` must each hold ratings above "
        f"{above} (liked) and others, and they hold: {told}. The last {online_rows} ratings of each user are the "
        f"online evaluation, so users need {online_rows + 1} or more, and {for_all} to be in every "
        f"part. Data without any rating of {above} or less, as clicks are, cannot teach a ranking what is not liked: "
        "give it such ratings."
    )


def check_enough(labels: Labels, scale: RatingScale, online_rows: int) -> None:
    """Checks that there is something to learn from, and something to measure on; see `lack`.

    Raises:
        ThinDataError: the rows to fit, or those of test, lack the one class or the other.
    """
    counts = {name: (int(part.sum()), int((part == 0).sum())) for name, part in labels.items()}
    if sentence := lack(counts, scale, online_rows):
        raise ThinDataError(sentence)
