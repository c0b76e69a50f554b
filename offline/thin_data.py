"""What the models need to be fitted and measured at all, checked before the first of them is."""

from collections.abc import Mapping

from data_exchange_center.arrays import UInt8Array


class ThinDataError(Exception):
    """There is too little to fit or to measure; the message has the rule and the counts."""

    is_expected = True


def check_enough(labels: Mapping[str, UInt8Array]) -> None:
    """Checks that there is something to learn from, and something to measure on.

    Args:
        labels: of the rows of `train` (those of valid apart), `valid` and `test`; 1 where liked.

    Raises:
        ThinDataError: the rows to fit, or those of test, lack the one class or the other.
    """
    counts = {name: (int(part.sum()), int((part == 0).sum())) for name, part in labels.items()}
    if min(*counts["train"], *counts["test"]) > 0:
        return
    told = ", ".join(f"{name} {liked:,} liked and {other:,} not" for name, (liked, other) in counts.items())
    raise ThinDataError(
        "too little to fit and to measure a ranking on: `train` and `test` must each hold ratings above 3 (liked) and "
        f"others, and they hold: {told}. The last 10 ratings of each user are the online evaluation, so users need 11 "
        "or more, and two dozen to be in every part. Data without any rating of 3 or less, as clicks are, cannot teach "
        "a ranking what is not liked: give it such ratings."
    )
