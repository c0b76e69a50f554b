"""Establishes that the report finds what is there and nothing else: A/A, a known gain, and users lost on the way."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.quality.experiment_report import ReportError, report, sample_ratio, user_means, users_needed, welch
from benchmarks.quality.experiment_simulation import GAIN, LEAST_P, POWER, shares_of_likes, simulate


def test_a_user_is_one_value() -> None:
    users, means = user_means(np.array([7, 3, 7, 7]), np.array([1.0, 0.5, 0.0, 0.5]))
    assert users.tolist() == [3, 7] and means.tolist() == [0.5, 0.5]


def test_the_intervals_hold_the_difference() -> None:
    rng = np.random.default_rng(1)
    assigned = np.arange(6000) % 3
    values = rng.normal(1.0, 0.5 + 0.5 * assigned) + 0.2 * (assigned == 2)
    found = report(["a", "b", "c"], [1, 1, 1], assigned, values, seed=3)
    assert [(arm.arm, arm.users) for arm in found.arms] == [("a", 2000), ("b", 2000), ("c", 2000)] and found.sizes_fit
    none, gain = found.differences
    assert none.interval[0] < 0 < none.interval[1] and none.p > 0.05
    assert gain.p < 0.01 and gain.interval[0] > 0
    for difference in found.differences:  # the values are normal: both intervals say the same
        assert difference.bootstrap == pytest.approx(difference.interval, abs=0.015)
    means = [values[assigned == arm].mean() for arm in (0, 2)]
    assert gain.value == pytest.approx(means[1] - means[0]) and gain.relative == pytest.approx(means[1] / means[0] - 1)
    holds = []
    for _ in range(300):
        first, other = rng.normal(1.0, 0.5, 80), rng.normal(1.2, 1.5, 40)
        low, high = welch(first, other)[1]
        holds.append(low < 0.2 < high)
    assert 0.91 < np.mean(holds) < 0.985  # 95 %, although the variances and the sizes differ


def test_users_lost_on_the_way_are_noticed() -> None:
    assert sample_ratio([5000, 5000], [1, 1]) == pytest.approx(1) and sample_ratio([900, 9100], [1, 9]) > 0.0005
    assigned = np.array([0] * 5000 + [1] * 4600)
    found = report(["a", "b"], [1, 1], assigned, np.random.default_rng(0).random(len(assigned)))
    assert not found.sizes_fit and found.sizes_p < 0.001


def test_the_number_of_users_is_that_of_the_textbook_for_a_large_pilot() -> None:
    pilot = np.random.default_rng(2).normal(10, 2, 40_000)
    reach = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    expected = reach**2 * 2 * 2 * (2**2 + (2 * 1.05) ** 2) / 2 / (10 * 0.05) ** 2
    assert expected <= users_needed(pilot, 0.05, 0.8) <= 1.05 * expected
    assert users_needed(pilot, 0.05, 0.9) > 1.3 * expected and users_needed(pilot, 0.1) < expected / 3
    assert users_needed(pilot, 0.05, share=0.1) > 2 * expected
    small = [users_needed(pilot[start : start + 200], 0.05) for start in range(0, 40_000, 200)]
    assert 0.85 < np.mean(np.array(small) >= expected) < 0.99  # half of them, by their own variances


@pytest.mark.parametrize("pilot", [np.array([1.0]), np.zeros(9)])
def test_a_pilot_that_sizes_nothing_is_refused(pilot: np.ndarray) -> None:
    with pytest.raises(ReportError, match="size no experiment"):
        users_needed(pilot, 0.05)
    with pytest.raises(ReportError, match="arm b has 0 users"):
        report(["a", "b"], [1, 1], np.zeros(9, np.int64), np.ones(9))


def test_no_difference_gives_uniform_p_values_and_a_known_one_is_found() -> None:
    simulated = simulate(
        200, 200, 400, seed=7, gain=3 * GAIN
    )  # the command finds GAIN itself, with ten times the users
    assert simulated.uniform_p > LEAST_P and simulated.false_alarms < 0.1
    assert simulated.power >= POWER and 300 < simulated.users < 1500
    generator = np.random.default_rng(0)
    rates = [shares_of_likes(200_000, np.full(200_000, gain), generator).mean() for gain in (0.0, GAIN)]
    assert rates[1] / rates[0] == pytest.approx(1 + GAIN, abs=0.01)
