"""Establishes that drift alarms when features, scores or candidates shift, and seldom when nothing does."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality import drift
from benchmarks.quality.drift_statistics import FALSE_ALARMS, Observed, Sample, compare, false_alarm_rate, psi
from data_exchange_center.arrays import Float64Array
from data_exchange_center.features import Entity, FeatureSet
from data_exchange_center.settings import Settings
from online.callers.feast_caller import FeastCaller, Features
from online.main.backends import connect
from tests.conftest import Stack

CANDIDATES = 40


def lists_of(count: int, rng: np.random.Generator, shift: float = 0.0) -> Sample:
    """Lists whose candidates are alike: what a user likes is in all of them."""
    lists, tastes = np.arange(count), rng.normal(size=count)
    owners = np.repeat(lists, CANDIDATES)
    liked = rng.random(len(owners)) < 1 / (1 + np.exp(-2 * tastes[owners]))
    columns = {
        "age": Observed(rng.integers(0, 7, count).astype(np.float64), lists),
        "score": Observed(tastes[owners] + rng.normal(size=len(owners)) + shift, owners),
        **{f"genre {n}": Observed(rng.permutation(liked).astype(np.float64), owners) for n in range(10)},
        "of the user's genre": Observed(liked.astype(np.float64), owners),
    }
    return Sample(count, columns)


def test_psi_is_that_of_the_textbook() -> None:
    """Of shares 0.5, 0.5 and 0.25, 0.75: a quarter of the logarithm of 3."""
    assert psi(np.array([5e6, 5e6]), np.array([2.5e6, 7.5e6])) == pytest.approx(np.log(3) / 4, 1e-4)


@pytest.mark.parametrize("size", [60, 300])
def test_equals_alarm_no_more_often_than_stated(size: int) -> None:
    """In small samples the noise decides, in large ones the least shift does."""
    rate = false_alarm_rate(lists_of(size, np.random.default_rng(1)), 1 / 3, 60, seed=2)
    assert rate <= FALSE_ALARMS + 3 * np.sqrt(FALSE_ALARMS * (1 - FALSE_ALARMS) / 60)


def test_a_shift_alarms_in_its_column_alone() -> None:
    rng = np.random.default_rng(3)
    columns = compare(lists_of(600, rng), lists_of(300, rng, shift=1.0), seed=4)
    assert [name for name, column in columns.items() if column.is_alarm] == ["score"]
    assert next(iter(columns)) == "score"


def test_a_value_that_the_reference_lacks_is_seen() -> None:
    lists = np.arange(100)
    constant, other = (Sample(100, {"x": Observed(np.full(100, value), lists)}) for value in (0.0, 5.0))
    assert compare(constant, other, seed=1)["x"].is_alarm and not compare(constant, constant, seed=1)["x"].is_alarm


class Shifted:
    """Feast's own values of users, each after the same change; all else as Feast has it."""

    def __init__(self, store: FeastCaller, change: Callable[[Float64Array], Float64Array]) -> None:
        self._store, self._change = store, change

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def request_features(self, declared: FeatureSet, entity: Entity, ids: list[int]) -> Callable[[], Features]:
        receive = self._store.request_features(declared, entity, ids)

        def changed() -> Features:
            features = receive()
            return Features(self._change(features.values.copy()), features.known)

        return changed


def test_the_live_stores_agree_with_the_training_until_a_feature_shifts(served: Stack) -> None:
    """On real services: no alarm on what was loaded, one where the history in the feature store is lost."""
    backends = connect(Settings())
    report = drift.measure(backends, live=200)
    assert report.live_lists == 200 and not report.alarms, drift.shown(report)
    drift.check(report)

    def without_history(values: Float64Array) -> Float64Array:
        values[:, 4:] = 0
        return values

    shifted = replace(backends, feature_store=Shifted(backends.feature_store, without_history))  # type: ignore[arg-type]
    report = drift.measure(shifted, live=200)
    assert any("user feature" in name for name in report.alarms) and "ALARM" in drift.shown(report)
    with pytest.raises(drift.DriftAlarm, match="columns have drifted"):
        drift.check(report)
