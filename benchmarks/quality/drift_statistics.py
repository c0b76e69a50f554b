"""How far two samples of lists are apart, column by column: PSI, with thresholds that sampling seldom passes.

The population stability index compares shares of bins. Its value between two samples of the same users depends on their
sizes, on the number of bins and on how alike the items of one list are, so that a rule of thumb alone (0.1: a shift;
0.25: a large one) rings false alarms on small samples. Here whole lists are drawn again from the reference, in pairs of
the samples' sizes; an alarm is a PSI above LEAST_SHIFT and above what all but FALSE_ALARMS of these pairs reach in any
column.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_exchange_center.arrays import Float64Array, Int64Array
from data_exchange_center.drift_report import ColumnDrift

LEAST_SHIFT = 0.1  # PSI: a smaller one is no alarm, however large the samples are
FALSE_ALARMS = 0.01  # share of comparisons of equals in which any of the columns may be one
DRAWS = 500  # pairs of samples of the reference
MOST_VALUES = 25  # of a column that has a bin for each value; of others the bins are QUANTILES of the reference
QUANTILES = 10
TINY = 1e-12  # stands for the noise of a column that has none
UNSEEN = 0.5  # is added to each bin's count: a bin that one sample lacks is no infinite distance


@dataclass(frozen=True)
class Observed:
    """One column: n values, and the list that each belongs to, as numbers from 0."""

    values: Float64Array
    lists: Int64Array


@dataclass(frozen=True)
class Sample:
    """Plain columns of some lists, wherever they come from: artefacts, live stores, or a log of impressions.

    Attributes:
        size: how many lists.
        columns: by name; of a list, as the user's features, or of its candidates.
    """

    size: int
    columns: Mapping[str, Observed]

    def select(self, chosen: Int64Array) -> "Sample":
        """Some of the lists, each once."""
        number = np.full(self.size, -1)
        number[chosen] = np.arange(len(chosen))
        columns = {}
        for name, column in self.columns.items():
            lists = number[column.lists]
            columns[name] = Observed(column.values[lists >= 0], lists[lists >= 0])
        return Sample(len(chosen), columns)


@dataclass(frozen=True)
class Bins:
    """The bins of a column: one for each value and one for all others, or those between quantiles.

    Attributes:
        values: [b] ascending; values, or the inner edges.
        are_edges: which of the two.
    """

    values: Float64Array
    are_edges: bool

    @classmethod
    def of(cls, values: Float64Array) -> "Bins":
        """The bins that the reference's values suggest."""
        distinct = np.unique(values) if len(values) else np.zeros(1)
        if len(distinct) <= MOST_VALUES:
            return cls(distinct, are_edges=False)
        return cls(np.unique(np.quantile(values, np.arange(1, QUANTILES) / QUANTILES)), are_edges=True)

    def counts(self, column: Observed, lists: int) -> Float64Array:
        """[lists, b + 1] how many values of each list are in each bin."""
        if self.are_edges:
            places = np.searchsorted(self.values, column.values, side="right")
        else:
            places = np.searchsorted(self.values, column.values)
            found = self.values[np.minimum(places, len(self.values) - 1)] == column.values
            places = np.where(found, places, len(self.values))
        bins = len(self.values) + 1
        return np.bincount(column.lists * bins + places, minlength=lists * bins).reshape(lists, bins).astype(np.float64)


def psi(reference: Float64Array, live: Float64Array) -> Float64Array:
    """[...] the population stability index of [..., bins] counts."""
    one, other = ((counts + UNSEEN) / (counts + UNSEEN).sum(axis=-1, keepdims=True) for counts in (reference, live))
    distance: Float64Array = ((other - one) * np.log(other / one)).sum(axis=-1)
    return distance


def _drawn(size: int, of: int, rng: np.random.Generator) -> Float64Array:
    """[DRAWS, of] how often each of the lists is in a sample of that size."""
    places = rng.integers(0, of, (DRAWS, size)) + of * np.arange(DRAWS)[:, None]
    return np.bincount(places.ravel(), minlength=DRAWS * of).reshape(DRAWS, of).astype(np.float64)


def compare(reference: Sample, live: Sample, seed: int) -> dict[str, ColumnDrift]:
    """Every column of the live sample beside the reference's, the farthest beyond their thresholds first.

    Args:
        reference, live: with the same columns, and no list in both.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    draws = [_drawn(size, reference.size, rng) for size in (reference.size, live.size)]
    found, noise = {}, {}
    for name, column in reference.columns.items():
        bins = Bins.of(column.values)
        counts = bins.counts(column, reference.size)
        found[name] = float(psi(counts.sum(axis=0), bins.counts(live.columns[name], live.size).sum(axis=0)))
        noise[name] = psi(draws[0] @ counts, draws[1] @ counts)
    # The cube root of a PSI of equals is about normal, whatever the number of bins. One distance in standard deviations
    # for all columns: as many tests as there are columns ring no more often than one would.
    roots = {name: np.cbrt(np.maximum(of_draws, 0)) for name, of_draws in noise.items()}
    deviations = {name: max(float(of_draws.std()), TINY) for name, of_draws in roots.items()}
    farthest = np.max([(of_draws - of_draws.mean()) / deviations[name] for name, of_draws in roots.items()], axis=0)
    distance = float(np.quantile(farthest, 1 - FALSE_ALARMS))
    columns = {
        name: ColumnDrift(
            psi=found[name],
            threshold=max(LEAST_SHIFT, float(roots[name].mean() + distance * deviations[name]) ** 3),
            reference_mean=_mean(reference.columns[name]),
            live_mean=_mean(live.columns[name]),
        )
        for name in found
    }
    return dict(sorted(columns.items(), key=lambda item: item[1].threshold / max(item[1].psi, TINY)))


def _mean(column: Observed) -> float:
    return float(column.values.mean()) if len(column.values) else 0.0


def false_alarm_rate(sample: Sample, share: float, times: int, seed: int) -> float:
    """The share of comparisons of two disjoint random parts of one sample in which any column is an alarm.

    Args:
        sample: of equals.
        share: of the lists that stands for the live ones.
        times: how many comparisons.
        seed: of the divisions.
    """
    rng, live = np.random.default_rng(seed), round(sample.size * share)
    alarms = 0
    for number in range(times):
        order = rng.permutation(sample.size)
        columns = compare(sample.select(order[live:]), sample.select(order[:live]), seed + number)
        alarms += any(column.is_alarm for column in columns.values())
    return alarms / times
