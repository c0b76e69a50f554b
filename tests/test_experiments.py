"""Establishes that the report on experiments counts lists and users once, and distrusts sizes that do not fit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from benchmarks.quality import experiments as experiments_report
from benchmarks.quality.experiments import LIKED, lists_shown, taking_part
from data_exchange_center import catalogue
from online.arms import Arms
from online.experiments import Experiments
from tests.conftest import Offline

FILE = """
[[experiments]]
name = "order"
salt = "one"
[[experiments.arms]]
name = "served"
[[experiments.arms]]
name = "recall"
"""
USERS, LISTS = 600, 4


def logged(experiments: Experiments, rate: dict[str, float], seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The drained log of USERS users with LISTS lists each; a list is liked with the rate of its arm."""
    rng = np.random.default_rng(seed)
    shown, seen = [], []
    for number in range(USERS * LISTS):
        userid = number % USERS + 1
        arm = Arms.of(experiments.assign(userid)).label
        for position in (1, 2):
            shown.append((1, number, position, userid, f"other:x+{arm}"))
        if rng.random() < rate[arm]:
            seen.append((1, number, 1, 1))
    key = ["entry_milliseconds", "entry_number", "position"]
    return (pd.DataFrame(shown, columns=[*key, "userid", "arm"]), pd.DataFrame(seen, columns=[*key, "label"]))


@pytest.fixture
def experiments(tmp_path: Path) -> Experiments:
    (tmp_path / "experiments.toml").write_text(FILE)
    return Experiments.load(tmp_path / "experiments.toml")


def test_lists_and_users_are_counted_once(experiments: Experiments) -> None:
    impressions, exposures = logged(experiments, {"order:served": 0.3, "order:recall": 0.6})
    lists = lists_shown(impressions, exposures)
    assert len(lists) == USERS * LISTS and lists[LIKED].sum() == len(exposures)
    found = taking_part(lists, experiments.experiments[0])
    assert len(found.values) == USERS and found.in_several == 0
    by_arm = {place: found.values[found.arms == place].mean() for place in (0, 1)}
    assert by_arm[0] == pytest.approx(0.3, abs=0.05) and by_arm[1] == pytest.approx(0.6, abs=0.05)
    # A user whose weights were changed on the way is of no arm.
    impressions.loc[impressions["entry_number"] == 0, "arm"] = (
        "order:served" if "recall" in impressions["arm"][0] else "order:recall"
    )
    found = taking_part(lists_shown(impressions, exposures), experiments.experiments[0])
    assert len(found.values) == USERS - 1 and found.in_several == 1


def test_the_report_finds_a_gain_and_distrusts_lost_users(
    artefacts: Offline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiments: Experiments,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("EXPERIMENTS_FILE", str(tmp_path / "experiments.toml"))
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "run"))
    impressions, exposures = logged(experiments, {"order:served": 0.3, "order:recall": 0.6})
    monkeypatch.setattr(type(catalogue.IMPRESSIONS_LOG), "load", lambda table, names: of(table, names))
    logs = {catalogue.IMPRESSIONS_LOG: impressions, catalogue.EXPOSURES: exposures}

    def of(table: object, names: list[str]) -> pa.Table:
        return pa.Table.from_pandas(logs[table][names], preserve_index=False)  # type: ignore[index]

    experiments_report.main()
    printed = capsys.readouterr().out
    assert "| recall" in printed and "fit the weights" in printed and "need " in printed
    assert (tmp_path / "run/experiments.json").exists()
    # Half of one arm's users lose their lists on the way.
    lost = impressions["arm"].str.endswith("recall") & (impressions["userid"] % 2 == 0)
    logs[catalogue.IMPRESSIONS_LOG] = impressions[~lost]
    with pytest.raises(SystemExit):
        experiments_report.main()
    assert "DO NOT fit" in capsys.readouterr().out
