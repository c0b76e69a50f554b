"""Establishes that a user's list follows the user's arms, that the answer and the log say which, and nobody else's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import flask.testing
import pytest

from online.arms import NO_ARMS, Arms
from online.engine import Engine
from online.experiments import Experiments, ExperimentsError
from online.impression_log import entry_of
from online.main.app import create_app
from online.shown import Shown
from tests.online.stand_ins import DATA, Services, backends_of

FILE = """
[[experiments]]
name = "order"
salt = "one"
[[experiments.arms]]
name = "served"
[[experiments.arms]]
name = "recall"
settings = {ranker = "recall_only", index = "ml_item-l-2"}

[[experiments]]
name = "model"
salt = "two"
share = 0.5
[[experiments.arms]]
name = "newest"
[[experiments.arms]]
name = "fourth"
settings = {model_version = "4", diversity = 0.5}
"""
RECALL, FOURTH = "order:recall", "model:fourth"


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def engine(services: Services, tmp_path: Path) -> Iterator[Engine]:
    (tmp_path / "experiments.toml").write_text(FILE)
    experiments = Experiments.load(tmp_path / "experiments.toml")
    made = Engine(backends_of(services), lambda: DATA, lambda: None, 60.0, 2, experiments=experiments)
    yield made
    made.close()


@pytest.fixture
def client(engine: Engine) -> flask.testing.FlaskClient:
    return create_app(engine=engine).test_client()


def user_with(engine: Engine, *arms: str, without: tuple[str, ...] = ()) -> int:
    """A user whom the stand-ins take for user 1, and who has these arms."""
    for userid in range(1, 2000):
        label = Arms.of(engine.experiments.assign(userid)).label.split("+")
        if set(arms) <= set(label) and not set(without) & set(label):
            return userid
    raise AssertionError("there is none")


def test_without_experiments_nothing_is_said(services: Services) -> None:
    with_none = Engine(backends_of(services), lambda: DATA, lambda: None, 60.0, 2)
    try:
        content = create_app(engine=with_none).test_client().get("/recommend?userid=1").get_json()
        assert "experiments" not in content and Arms.of(with_none.experiments.assign(1)) is NO_ARMS
    finally:
        with_none.close()


def test_a_list_follows_the_arms_and_the_answer_says_which(
    engine: Engine, services: Services, client: flask.testing.FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = user_with(engine, without=(RECALL, FOURTH))
    known = services.user
    monkeypatch.setattr(services, "user", lambda userid, load: known(1, load))
    content = client.get(f"/recommend?userid={plain}").get_json()
    assert content["experiments"]["order"] == "served" and content["model_version"]
    assert services.saw_index == services.saw_version == ""

    recall = client.get(f"/recommend?userid={user_with(engine, RECALL, without=(FOURTH,))}").get_json()
    assert recall["experiments"]["order"] == "recall" and services.saw_index == "ml_item-l-2"
    assert recall["model_version"] is None and "degraded" not in recall
    assert all(item["score"] == item["recall_score"] for item in recall["items"])

    fourth = user_with(engine, FOURTH, without=(RECALL,))
    content = client.get(f"/recommend?userid={fourth}").get_json()
    assert content["experiments"] == {"order": "served", "model": "fourth"} and services.saw_version == "4"
    assert content["applied"]["diversity"] == 0.5
    # A request that says how diverse its list is to be is no part of that experiment's difference.
    assert client.get(f"/recommend?userid={fourth}&diversity=0.2").get_json()["applied"]["diversity"] == 0.2


def test_the_log_has_the_arms_and_how_probable_they_were(engine: Engine) -> None:
    arms = Arms.of(engine.experiments.assign(user_with(engine, RECALL, FOURTH)))
    found = engine.recommend(1, 3)
    assert entry_of(Shown(found, 1, "r", 0)).arm == "default"
    entry = entry_of(Shown(replace(found, arms=arms), 1, "r", 0))
    assert entry.arm == "order:recall+model:fourth" and entry.propensity == 0.25


def test_two_experiments_that_change_the_same_are_refused(tmp_path: Path) -> None:
    (tmp_path / "experiments.toml").write_text(FILE.replace('model_version = "4"', 'ranker = "recall_only"'))
    with pytest.raises(ExperimentsError, match="two experiments change ranker"):
        Experiments.load(tmp_path / "experiments.toml")


def test_the_operations_say_what_runs(client: flask.testing.FlaskClient) -> None:
    versions = client.get("/operations.json").get_json()["versions"]
    assert versions["experiments"] == ["order: served, recall", "model: newest, fourth"]
