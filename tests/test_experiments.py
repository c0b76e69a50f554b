"""Establishes that the report on experiments counts lists and users once, and distrusts sizes that do not fit."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from benchmarks.quality import experiments as experiments_report
from benchmarks.quality.experiment_report import ReportError
from benchmarks.quality.experiments import LIKED, lists_shown, taking_part
from benchmarks.quality.preferences import preference, preferences
from benchmarks.quality.shadow_report import shadow_report
from benchmarks.quality.shadow_report import told as shadow_told
from data_exchange_center import catalogue
from online.arms import Arms
from online.callers.types import ScoredItem
from online.experiments import Experiments, toss
from online.interleaving import team_draft
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


def drafted(experiments: Experiments, likes_second: float, seed: int, users: int = USERS) -> pd.DataFrame:
    """Exposures of interleaved lists: each user likes a few items, of the second arm's team with this probability."""
    rng = np.random.default_rng(seed)
    liked = rng.integers(0, 6, users)
    userid = np.repeat(np.arange(users), liked)
    first, second = (arm.name for arm in experiments.experiments[0].arms)
    rows = pd.DataFrame({"userid": userid, "label": 1, "arm": "order:interleaved+other:x"})
    rows["team"] = np.where(rng.random(len(rows)) < likes_second, second, first)
    others = pd.DataFrame(
        {"userid": [0, 1, 2], "label": [0, 1, 1], "arm": ["order:interleaved", "order:x", "order:interleaved"]}
    )
    return pd.concat([rows, others.assign(team=[second, second, ""])], ignore_index=True)


def test_a_user_prefers_whose_items_they_liked(experiments: Experiments) -> None:
    experiment = experiments.experiments[0]
    by_hand = pd.DataFrame({
        "userid": [1, 1, 1, 2, 3, 3],
        "label": [1, 1, 0, 1, 1, 1],
        "arm": "order:interleaved",
        "team": ["served", "recall", "recall", "recall", "", None],
    })  # fmt: skip
    assert preferences(by_hand, experiment).tolist() == [0.0, 1.0]  # of user 3's likes none is a team's
    even = [preference(preferences(drafted(experiments, 0.5, seed), experiment)).p for seed in range(200)]
    assert stats.kstest(even, "uniform").pvalue > 0.01
    found = preference(preferences(drafted(experiments, 0.58, 1), experiment))
    assert found.p < 0.01 and found.interval[0] > 0 and found.for_second > found.for_first
    assert found.users < USERS  # some like nothing
    for alike in ([1.0], [1.0, 1.0]):
        with pytest.raises(ReportError, match="users liked an item of an interleaved list"):
            preference(np.array(alike))


def test_an_interleaved_experiment_is_reported(
    artefacts: Offline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiments: Experiments,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "experiments.toml"
    file.write_text(FILE.replace('salt = "one"', 'salt = "one"\ninterleaved = true'))
    monkeypatch.setenv("EXPERIMENTS_FILE", str(file))
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "run"))
    key = {"entry_milliseconds": 1, "entry_number": 1, "position": 1}
    log = drafted(experiments, 0.7, 1).assign(**key, shadow_version=None, shadow_position=0)
    monkeypatch.setattr(
        type(catalogue.IMPRESSIONS_LOG), "load", lambda _, names: pa.Table.from_pandas(log[names], preserve_index=False)
    )
    experiments_report.main()
    printed = capsys.readouterr().out
    assert "more of recall's" in printed and "more liked of recall's" in printed
    assert json.loads((tmp_path / "run/experiments.json").read_text())["experiments"]["order"]["value"] > 0.2


def test_the_report_finds_a_gain_and_distrusts_lost_users(
    artefacts: Offline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiments: Experiments,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("EXPERIMENTS_FILE", str(tmp_path / "experiments.toml"))
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "run"))
    impressions, exposures = logged(experiments, {"order:served": 0.3, "order:recall": 0.6})
    impressions = impressions.assign(shadow_version=None, shadow_position=None)
    exposures = exposures.assign(userid=0, arm="", team=None)
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


def test_a_shadow_is_compared_by_what_users_liked() -> None:
    """Two lists of three items: the shadow turns the first around, and has the second's liked item far down."""
    key = {"entry_milliseconds": [1] * 3 + [2] * 3, "entry_number": 0, "position": [1, 2, 3] * 2}
    shown = pd.DataFrame({**key, "userid": [7] * 3 + [8] * 3, "shadow_position": [3, 2, 1, 40, 2, 0]})
    seen = pd.DataFrame({**key, "label": [0, 0, 1, 1, 0, 0]}).iloc[:4]  # what stands below the last act was not seen
    found = shadow_report(shown, seen)
    assert found.overlap and found.served_right and found.shadow_right and found.difference
    assert (found.lists, found.overlap.value) == (2, pytest.approx((1 + 1 / 2) / 2))  # a pinned item is left out
    # User 7's liked item stood last and is first in the shadow; user 8's stood first, before one that is no pin.
    assert (found.served_right.value, found.shadow_right.value) == (0.5, 0.5)
    assert (found.difference.users, found.difference.value) == (2, 0.0)
    assert shadow_report(shown[:3], seen).difference is None
    shown = shown.assign(shadow_version="9", arm="x")
    assert list(experiments_report.shadows(shown, seen)) == ["9"]
    assert "## Version 9 in the shadow of 2 lists" in shadow_told("9", found)


def test_a_shadow_by_chance_gains_nothing() -> None:
    """Lists with one like each, as the page sends them: what was seen ends with it."""
    rng, size = np.random.default_rng(0), 10
    lists = np.repeat(np.arange(500), size)
    position = np.tile(np.arange(1, size + 1), 500)
    shuffled = np.concatenate([rng.permutation(size) + 1 for _ in range(500)])
    key = {"entry_milliseconds": lists, "entry_number": 0, "position": position}
    shown = pd.DataFrame({**key, "userid": lists % 100, "shadow_position": shuffled})
    liked = np.repeat(rng.integers(1, size + 1, 500), size)  # at any place alike
    seen = pd.DataFrame({**key, "label": (position == liked).astype(int)})[position <= liked]
    found = shadow_report(shown, seen).difference
    assert found and found.interval[0] < 0 < found.interval[1] and abs(found.value) < 0.05


def test_interleaving_two_lists_that_are_alike_prefers_neither(experiments: Experiments) -> None:
    """By the draft and the coin of the server: p-values of A/A experiments are uniform, wherever users like."""
    first, second = (arm.name for arm in experiments.experiments[0].arms)
    items = [ScoredItem(itemid, 1.0, 1.0, None, ("term",)) for itemid in range(8)]
    rng, found = np.random.default_rng(0), []
    for number in range(200):
        rows = []
        for userid in range(40):
            for seen in range(3):
                order = rng.permutation(8)
                lists = [[items[at] for at in order], [items[at] for at in rng.permutation(order)]]
                _, teams = team_draft(*lists, 6, partial(toss, f"salt {number}", userid, 0, seen))
                liked = rng.random(6) < 0.6 / np.arange(1, 7)  # what stands higher is looked at more
                rows += [
                    (userid, (first, second)[team]) for team, is_liked in zip(teams, liked, strict=True) if is_liked
                ]
        log = pd.DataFrame(rows, columns=["userid", "team"]).assign(label=1, arm="order:interleaved")
        found.append(preference(preferences(log, experiments.experiments[0])).p)
    assert stats.kstest(found, "uniform").pvalue > 0.01
