"""What an experiment shows: each arm's rate over its users, what the arms gain over the first, and whether to trust it.

A user is the unit, as in the assignment: what one user does many times over is one value, since lists of the same user
are alike and an interval that takes them as independent is too narrow. Everything is computed on whole columns.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from data_exchange_center.arrays import FloatArray, IntArray
from offline.metrics import CONFIDENCE, RESAMPLES, Interval, interval

DRAWN_AT_A_TIME = 1 << 22  # users' values, of some resamples: 32 MiB, however many users there are
MISMATCH = 0.001  # p below which the arms' sizes are not what their weights say
DOUBT = 0.95  # of pilots ask for at most as many users as an experiment is sized for


class ReportError(Exception):
    """An experiment that nothing can be said of; the message says what it lacks."""

    is_expected = True


@dataclass(frozen=True)
class ArmRate:
    """One arm: its users, and the mean of their values with its interval."""

    arm: str
    users: int
    rate: float
    interval: Interval


@dataclass(frozen=True)
class ArmDifference:
    """What an arm gains over the first one.

    Attributes:
        arm: its name.
        value, relative: the difference of the means; the same as a share of the first arm's mean.
        interval: by Welch's test, which lets the variances differ.
        bootstrap: the percentile interval over users drawn again, for values that are far from normal.
        p: of Welch's test, two-sided.
    """

    arm: str
    value: float
    relative: float
    interval: Interval
    bootstrap: Interval
    p: float


@dataclass(frozen=True)
class ExperimentReport:
    """The arms, in the order of the experiment, and what each gains over the first.

    Attributes:
        sizes_p: of the sample-ratio check: how probable sizes as uneven as these are under the weights.
        sizes_fit: whether they can be believed; where they cannot, users were lost on the way, and nothing else counts.
    """

    arms: tuple[ArmRate, ...]
    differences: tuple[ArmDifference, ...]
    sizes_p: float
    sizes_fit: bool


def user_means(users: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """The users [n], ascending, and the mean of each one's values.

    Args:
        users, values: [m] one row a list, an impression, or whatever is counted.
    """
    distinct, place = np.unique(users, return_inverse=True)
    counts = np.bincount(place, minlength=len(distinct))
    return distinct, np.bincount(place, values, len(distinct)) / np.maximum(counts, 1)


def sample_ratio(counts: Sequence[int], weights: Sequence[float]) -> float:
    """The p-value of the arms' numbers of users under their weights: the chi-square test of a sample-ratio mismatch."""
    expected = np.array(weights, float) / sum(weights) * sum(counts)
    return float(stats.chisquare(counts, expected).pvalue)


def mean_interval(values: FloatArray) -> Interval:
    """Student's interval of the mean of [n] values, of which there are two at least."""
    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = spread * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    mean = float(values.mean())
    return mean - half, mean + half


def welch(first: FloatArray, other: FloatArray) -> tuple[float, Interval]:
    """The p-value of Welch's test, and the interval of the difference of the means: [n], [m] one value a user."""
    test = stats.ttest_ind(other, first, equal_var=False)
    bounds = test.confidence_interval(CONFIDENCE)
    return float(test.pvalue), (float(bounds.low), float(bounds.high))


def resampled(statistic: Callable[..., FloatArray], samples: tuple[FloatArray, ...], seed: int = 0) -> FloatArray:
    """[RESAMPLES] a statistic of the users drawn again, those of each arm among themselves.

    Args:
        statistic: of the samples, along the axis that it gets.
        samples: one value a user, of one arm or of two.
        seed: of the drawing.
    """
    batch = max(DRAWN_AT_A_TIME // max(map(len, samples)), 1)
    generator = np.random.default_rng(seed)
    found = stats.bootstrap(
        samples, statistic, vectorized=True, n_resamples=RESAMPLES, batch=batch, method="percentile", rng=generator
    )
    drawn: FloatArray = found.bootstrap_distribution
    return drawn


def difference(arm: str, first: FloatArray, other: FloatArray, seed: int) -> ArmDifference:
    """What one arm's users gain over those of the first.

    Args:
        arm: the name of the other one.
        first, other: [n], [m] one value a user.
        seed: of the bootstrap.
    """
    p, by_welch = welch(first, other)
    value, before = float(other.mean() - first.mean()), float(first.mean())
    drawn = resampled(lambda one, another, axis: another.mean(axis) - one.mean(axis), (first, other), seed)
    return ArmDifference(
        arm=arm,
        value=value,
        relative=value / before if before else math.nan,
        interval=by_welch,
        bootstrap=interval(drawn),
        p=p,
    )


def report(
    arms: Sequence[str], weights: Sequence[float], assigned: IntArray, values: FloatArray, seed: int = 0
) -> ExperimentReport:
    """What the experiment shows.

    Args:
        arms, weights: of the experiment, in its order; the others are compared with the first.
        assigned: [users] each user's arm as its place in `arms`.
        values: [users] what each user's lists were worth on average.
        seed: of the bootstrap.

    Raises:
        ReportError: an arm has fewer than two users, of whom no interval can be made.
    """
    of_arms = [values[assigned == place] for place in range(len(arms))]
    for arm, of_arm in zip(arms, of_arms, strict=True):
        if len(of_arm) < 2:
            raise ReportError(f"arm {arm} has {len(of_arm)} users, an interval needs two: let the experiment run on.")
    sizes_p = sample_ratio([len(of_arm) for of_arm in of_arms], weights)
    return ExperimentReport(
        arms=tuple(
            ArmRate(arm, len(of_arm), float(of_arm.mean()), mean_interval(of_arm))
            for arm, of_arm in zip(arms, of_arms, strict=True)
        ),
        differences=tuple(
            difference(arm, of_arms[0], of_arm, seed) for arm, of_arm in zip(arms[1:], of_arms[1:], strict=True)
        ),
        sizes_p=sizes_p,
        sizes_fit=sizes_p >= MISMATCH,
    )


def users_needed(pilot: FloatArray, gain: float, power: float = 0.8, share: float = 0.5, alpha: float = 0.05) -> int:
    """How many users both arms together need for a gain to be found.

    Half of all pilots, taken at their word, ask for too few. So it is the number that DOUBT of the pilots drawn again
    from this one would ask for at most: the power is then at least what was asked for, and not only on average.

    Args:
        pilot: [users] values of users who have the first arm's lists.
        gain: that is to be found, as a share of the pilot's mean: 0.05 is five per cent.
        power: with which it is found.
        share: of the users who get the other arm.
        alpha: of the two-sided test.

    Raises:
        ReportError: the pilot has fewer than two users, no value above 0, or the gain is 0: no number is enough.
    """
    if len(pilot) < 2 or not pilot.mean() or not gain:
        raise ReportError(
            f"a pilot of {len(pilot)} users and a gain of {gain:g} size no experiment: it takes two users, some of "
            "whose values are above 0, and a gain other than 0."
        )
    least = np.finfo(float).tiny
    drawn = resampled(
        lambda values, axis: values.var(axis, ddof=1) / np.maximum(values.mean(axis) ** 2, least), (pilot,)
    )
    spread = np.quantile(drawn, DOUBT)
    reach = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))
    of_arms = 1 / (1 - share) + (1 + gain) ** 2 / share  # a gain in proportion spreads the other arm's values as well
    return max(math.ceil(reach**2 * float(spread) * of_arms / gain**2), 4)
