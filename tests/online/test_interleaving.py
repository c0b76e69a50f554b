"""Establishes that an interleaved list is drafted fairly from both arms' lists, and that answer and log say by whom."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import flask.testing
import pytest

from data_exchange_center.arrays import FloatArray
from online.arms import Arms
from online.callers.types import RankingScores, ScoredItem, ServedModel
from online.engine import Engine
from online.experiments import Experiments, ExperimentsError, toss
from online.impression_log import ImpressionLog
from online.interleaving import team_draft
from online.list_options import ListOptions
from online.main.app import create_app
from online.recommender import Way
from online.rules_file import RulesFile
from tests.online.stand_ins import DATA, Services, backends_of

FILE = """
[[experiments]]
name = "model"
salt = "one"
interleaved = true
[[experiments.arms]]
name = "third"
settings = {model_version = "3"}
[[experiments.arms]]
name = "fourth"
settings = {model_version = "4"}

[[experiments]]
name = "spread"
salt = "two"
[[experiments.arms]]
name = "as-it-is"
settings = {diversity = 0}
[[experiments.arms]]
name = "more"
settings = {diversity = 0.7}
"""


def items(*ids: int) -> list[ScoredItem]:
    return [ScoredItem(itemid, 1.0, 1.0, None, ("term",)) for itemid in ids]


def drafted(first: list[ScoredItem], second: list[ScoredItem], size: int, *coins: bool) -> list[tuple[int, int]]:
    found, teams = team_draft(first, second, size, lambda number: coins[number % len(coins)])
    return [(item.itemid, team) for item, team in zip(found, teams, strict=True)]


def test_teams_take_turns_and_no_item_comes_twice() -> None:
    # Both put 1 first: whoever begins has it.
    assert drafted(items(1, 2, 3), items(1, 4, 2), 4, False, True) == [(1, 0), (4, 1), (2, 1), (3, 0)]
    assert drafted(items(1, 2, 3), items(1, 4, 2), 4, True, False) == [(1, 1), (2, 0), (3, 0), (4, 1)]
    assert drafted(items(1, 2), items(2, 1), 5, False) == [(1, 0), (2, 1)]
    assert drafted(items(1, 2, 3), items(), 5, True) == [(1, 0), (2, 0), (3, 0)]
    assert drafted(items(1, 2, 3), items(4, 5, 6), 3, True) == [(4, 1), (1, 0), (5, 1)]


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_over_all_tosses_both_teams_are_alike(size: int) -> None:
    first, second = items(1, 2, 3, 4, 5), items(3, 1, 6, 7, 8)
    tosses = list(product([True, False], repeat=5))
    by_place = [[team for _, team in drafted(first, second, size, *coins)] for coins in tosses]
    for place in range(min(size, 2)):  # of the first round; later ones follow from what is left
        assert sum(teams[place] for teams in by_place) * 2 == len(by_place)
    for teams in by_place:
        # After each round, as long as neither list has ended, the teams are as large as each other.
        assert all(abs(2 * sum(teams[:end]) - end) <= 1 for end in range(min(len(teams), 8) + 1))


def test_a_toss_is_fair_and_always_the_same() -> None:
    falls = [toss("one", userid, 0, 17, number) for userid in range(1000) for number in range(4)]
    assert abs(sum(falls) / len(falls) - 0.5) < 0.02
    assert falls[:40] == [toss("one", userid, 0, 17, number) for userid in range(10) for number in range(4)]
    # Another act, page or salt tosses again.
    for others in (("one", 0, 18), ("one", 50, 17), ("two", 0, 17)):
        salt, shown, seen = others
        again = [toss(salt, userid, shown, seen, number) for userid in range(1000) for number in range(4)]
        assert 0.45 < sum(one == other for one, other in zip(falls, again, strict=True)) / len(falls) < 0.55


class TwoVersions(Services):
    """The third version's best item is 1, the fourth's is 4."""

    def score(self, inputs: object, version: str = "") -> tuple[RankingScores, ServedModel]:
        scores, model = super().score(inputs, version)  # type: ignore[arg-type]
        logits: FloatArray = scores.logits.copy()
        by_version = {"3": (3.0, 2.0, 1.0), "4": (1.0, 2.0, 3.0)}.get(version, (0.0, 0.0, 0.0))
        logits[0] = [by_version[row] for row in self.found]
        return RankingScores(logits, 2 * logits), dataclasses.replace(model, version=version or model.version)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    file = tmp_path / "experiments.toml"
    file.write_text(FILE)
    rules = RulesFile()
    experiments = Experiments.load(file)
    made = Engine(backends_of(TwoVersions()), lambda: DATA, lambda: None, 60.0, 2, rules, experiments=experiments)
    yield made
    made.close()


@pytest.fixture
def logged() -> list[str]:
    return []


@pytest.fixture
def client(engine: Engine, logged: list[str]) -> flask.testing.FlaskClient:
    log = ImpressionLog(logged.extend, lambda outcome, lists: None, pause=0.01)
    return create_app(engine=engine, impression_log=log).test_client()


def test_a_list_is_of_both_and_says_whose_each_item_is(client: flask.testing.FlaskClient, logged: list[str]) -> None:
    content = client.get("/recommend?userid=1", buffered=True).get_json()
    assert content["experiments"]["model"] == "interleaved" and content["model_version"] == "3+4"
    arms = [item["arm"] for item in content["items"]]
    best = {"third": 1, "fourth": 4}
    assert content["items"][0]["itemid"] == best[arms[0]] and content["items"][1]["itemid"] == best[arms[1]]
    assert set(arms[:2]) == {"third", "fourth"} and content["items"][2]["itemid"] == 2
    assert client.get("/recommend?userid=1").get_json()["items"] == content["items"]
    client.application.extensions["impression_log"].close()
    assert '"teams":["' + '","'.join(arms) + '"]' in logged[0] and "model:interleaved" in logged[0]


def test_what_another_experiment_changes_holds_for_both_sides(engine: Engine) -> None:
    arms = Arms.of(engine.experiments.assign(1))
    diversity = {"as-it-is": 0.0, "more": 0.7}[arms.by_experiment["spread"]]
    assert {arm.settings.diversity for arm in arms.teams.values()} == {diversity}
    assert [arm.settings.model_version for arm in arms.teams.values()] == ["3", "4"]
    assert arms.settings.model_version is None
    assert arms.label == f"model:interleaved+spread:{arms.by_experiment['spread']}"


def test_a_page_is_drafted_from_what_was_not_shown_yet(client: flask.testing.FlaskClient) -> None:
    first = client.get("/recommend?userid=1&size=1").get_json()
    second = client.get(f"/recommend?userid=1&size=5&cursor={first['cursor']}").get_json()
    ids = [item["itemid"] for item in first["items"] + second["items"]]
    assert sorted(ids) == [1, 2, 4]


def test_a_pinned_item_is_nobodys(engine: Engine, client: flask.testing.FlaskClient, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[pin]]\nname = "first"\nitemid = 2\nplace = 1\n')
    engine.recommender._rules = RulesFile(file)
    content = client.get("/recommend?userid=1").get_json()
    assert content["items"][0]["itemid"] == 2 and "arm" not in content["items"][0]
    assert {item["arm"] for item in content["items"][1:]} == {"third", "fourth"}


@pytest.mark.parametrize(("one", "other", "searches"), [("", "", 1), ("a", "a", 1), ("", "b", 2)])
def test_what_both_arms_share_is_asked_for_once(one: str, other: str, searches: int) -> None:
    services = TwoVersions()
    engine = Engine(backends_of(services), lambda: DATA, lambda: None, 60.0, 2)
    try:
        services.calls.clear()
        ways = [
            Way(name, engine.snapshot.with_ranking_version(version), ListOptions(index=index))
            for name, version, index in (("x", "3", one), ("y", "4", other))
        ]
        found = engine.recommender.recommend_drafted((ways[0], ways[1]), 1, 3, lambda seen, number: number == seen)
    finally:
        engine.close()
    calls = Counter(services.calls)
    assert (calls["redis"], calls["elasticsearch"], calls["feast"], calls["triton"]) == (1, searches, 1, 2)
    assert found.model_version == "3+4" and set(found.teams.values()) == {"x", "y"}


@pytest.mark.parametrize("down", ["elasticsearch", "triton", "feast", "redis"])
def test_without_a_service_there_is_a_list_all_the_same(down: str) -> None:
    services = TwoVersions()
    engine = Engine(backends_of(services), lambda: DATA, lambda: None, 60.0, 2)
    services.down = (down,)
    try:
        ways = [
            Way(name, engine.snapshot.with_ranking_version(version), ListOptions())
            for name, version in (("x", "3"), ("y", "4"))
        ]
        found = engine.recommender.recommend_drafted((ways[0], ways[1]), 1, 3, lambda seen, number: False)
    finally:
        engine.close()
    assert len(found.items) == 3 and found.degraded == [down]
    assert bool(found.teams) == (down in ("triton", "feast"))


def test_nothing_is_drafted_for_someone_unknown(client: flask.testing.FlaskClient) -> None:
    content = client.get("/recommend?userid=77").get_json()
    assert content["fallback"] == "cold_start" and not any("arm" in item for item in content["items"])


@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        ('salt = "two"', 'salt = "two"\ninterleaved = true', "two experiments are interleaved"),
        ('name = "fourth"', 'name = "fourth"\nweight = 2', "two arms of equal weight"),
        ('model_version = "4"', 'model_version = "4", shadow_version = "5"', "has no shadow"),
        ('name = "fourth"', 'name = "fourth"\n[[experiments.arms]]\nname = "fifth"', "two arms of equal weight"),
    ],
)
def test_what_cannot_be_drafted_is_told(tmp_path: Path, found: str, put: str, message: str) -> None:
    (tmp_path / "experiments.toml").write_text(FILE.replace(found, put, 1))
    with pytest.raises(ExperimentsError, match=message):
        Experiments.load(tmp_path / "experiments.toml")
