"""Establishes that users are divided by the weights, the same at any time, and by each experiment on its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.quality.experiment_report import sample_ratio
from online.experiments import Arm, ArmSettings, Experiment, Experiments, ExperimentsError
from tests.conftest import ROOT

FILE = """
[[experiments]]
name = "diversity"
salt = "one"
[[experiments.arms]]
name = "before"
[[experiments.arms]]
name = "diverse"
weight = 3
settings = {diversity = 0.2}

[[experiments]]
name = "ranker"
salt = "two"
share = 0.25
[[experiments.arms]]
name = "served"
[[experiments.arms]]
name = "recall"
settings = {ranker = "recall_only"}
"""
USERS = range(1, 8001)


def experiment(*weights: float, salt: str = "a", share: float = 1.0) -> Experiment:
    arms = tuple(Arm(name=f"arm{place}", weight=weight) for place, weight in enumerate(weights))
    return Experiment(name=f"of-{salt}", salt=salt, share=share, arms=arms)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiments.toml"
    path.write_text(FILE)
    return path


def test_a_file_says_who_gets_what(file: Path) -> None:
    assert Experiments.load(None).assign(1) == {}
    loaded = Experiments.load(file)
    assigned = [loaded.assign(userid) for userid in USERS]
    assert all(set(arms) >= {"diversity"} for arms in assigned)
    diverse = [arms["diversity"] for arms in assigned if arms["diversity"].arm.name == "diverse"]
    assert {(found.arm.settings, found.propensity) for found in diverse} == {(ArmSettings(diversity=0.2), 0.75)}
    taking_part = [arms["ranker"] for arms in assigned if "ranker" in arms]
    assert abs(len(taking_part) / len(USERS) - 0.25) < 0.02 and {found.propensity for found in taking_part} == {0.5}


@pytest.mark.parametrize("weights", [(1, 1), (1, 9), (2, 3, 5)])
def test_the_sizes_are_those_of_the_weights(weights: tuple[float, ...]) -> None:
    places = experiment(*weights).places(USERS)
    assert sample_ratio(np.bincount(places, minlength=len(weights)).tolist(), weights) > 0.01


def test_an_assignment_is_the_same_in_every_process() -> None:
    """And in every version of this project: a hash that moved would mix the arms of a running experiment."""
    script = (
        "from online.experiments import Arm, Experiment\n"
        "arms = tuple(Arm(name=name) for name in 'xyz')\n"
        "print(''.join(str(Experiment(name='e', salt='a', arms=arms).place(userid)) for userid in range(1, 31)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "".join(map(str, experiment(1, 1, 1).places(range(1, 31)).tolist()))
    assert done.stdout.strip() == "002202022122202200110122022220"


def test_a_share_that_grows_moves_nobody_into_another_arm() -> None:
    before, after = (experiment(1, 2, share=share).places(USERS) for share in (0.2, 0.6))
    took_part = before >= 0
    assert abs(took_part.mean() - 0.2) < 0.02 and abs((after >= 0).mean() - 0.6) < 0.02
    assert (after[took_part] == before[took_part]).all()


def test_one_experiment_says_nothing_of_another() -> None:
    one, other = (experiment(1, 1, salt=salt).places(USERS) for salt in ("a", "b"))
    table = np.array([[((one == i) & (other == j)).sum() for j in (0, 1)] for i in (0, 1)])
    assert stats.chi2_contingency(table).pvalue > 0.01


@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        ('name = "ranker"', 'name = "diversity"', "name diversity stands twice"),
        ('salt = "two"', 'salt = "one"', "salt one stands twice: two experiments would divide the users alike"),
        ('name = "recall"', 'name = "served"', "experiments.1.arms: .*arm served stands twice"),
        ("weight = 3", "weight = 0", "experiments.0.arms.1.weight: .*greater than 0"),
        ("{diversity = 0.2}", "{diversty = 0.2}", "experiments.0.arms.1.settings.diversty: Extra inputs"),
        ("{diversity = 0.2}", "{diversity = 2}", "less than or equal to 1"),
        ("share = 0.25", "share = 1.5", "experiments.1.share"),
        ("[[experiments]]", "[[experiments", "is no TOML"),
    ],
)
def test_a_file_that_is_wrong_is_told_in_a_sentence(file: Path, found: str, put: str, message: str) -> None:
    assert found in FILE
    file.write_text(FILE.replace(found, put, 1))
    with pytest.raises(ExperimentsError, match=message):
        Experiments.load(file)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentsError, match="none.toml cannot be read .*EXPERIMENTS_FILE names it"):
        Experiments.load(tmp_path / "none.toml")
