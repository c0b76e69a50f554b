"""Establishes that a version in the shadow scores lists for the log alone, and that no answer waits or changes."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask.testing
import pytest

from data_exchange_center.log_entries import ShownList
from online.callers.types import RankingScores, ServedModel, ServiceUnavailable
from online.engine import Engine
from online.experiments import Experiments
from online.impression_log import ImpressionLog
from online.main.app import create_app
from online.main.request_log import close_log
from online.recommendation import Recommendation
from online.shadows import DROPPED, FAILED, SCORED, WAITING, Shadows
from online.shown import Shadow, Shown
from tests.online.stand_ins import DATA, Services, backends_of, engine_on

FILE = """
[[experiments]]
name = "try"
salt = "one"
[[experiments.arms]]
name = "alone"
[[experiments.arms]]
name = "watched"
settings = {shadow_version = "9"}
"""


class WithNinth(Services):
    """The ninth version turns the order around; `fault` is raised instead where there is one."""

    fault: ServiceUnavailable | None = None

    def score(self, inputs: Any, version: str = "") -> tuple[RankingScores, ServedModel]:
        scores, model = super().score(inputs, version)
        if version != "9":
            return scores, model
        if self.fault:
            raise self.fault
        return RankingScores(-scores.logits, -scores.rank_scores), replace(model, version="9")


class Watched:
    """The application with both arms, and what it logged of users of each."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "experiments.toml").write_text(FILE)
        self.services = WithNinth(logits=(0.0, 4.0, 1.0))
        known = self.services.user
        self.services.user = lambda userid, load: known(1, load)  # type: ignore[method-assign]
        experiments = Experiments.load(tmp_path / "experiments.toml")
        self.engine = Engine(backends_of(self.services), lambda: DATA, lambda: None, 60.0, 2, experiments=experiments)
        self.entries: list[ShownList] = []
        log = ImpressionLog(self._append, lambda outcome, lists: None, 0.01)
        self.app = create_app(engine=self.engine, impression_log=log)
        places = {experiments.experiments[0].place(userid): userid for userid in range(1, 50)}
        self.alone, self.watched = places[0], places[1]

    def _append(self, entries: list[str]) -> None:
        self.entries += [ShownList.model_validate_json(entry) for entry in entries]

    def get(self, userid: int) -> Any:
        client: flask.testing.FlaskClient = self.app.test_client()
        return client.get(f"/recommend?userid={userid}", buffered=True).get_json()

    def end(self) -> None:
        close_log(self.app)
        self.engine.close()


def test_a_shadow_is_logged_and_shown_to_nobody(tmp_path: Path) -> None:
    app = Watched(tmp_path)
    plain, watched = app.get(app.alone), app.get(app.watched)
    deadline = time.monotonic() + 5
    while len(app.entries) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    app.end()
    assert watched["items"] == plain["items"] and watched["model_version"] == "7"
    assert watched["experiments"] == {"try": "watched"}
    by_user = {entry.userid: entry for entry in app.entries}
    assert by_user[app.alone].shadow_version is None and by_user[app.alone].shadow_positions == []
    entry = by_user[app.watched]
    assert entry.items == [2, 4, 1] and entry.shadow_version == "9"
    assert entry.shadow_positions == [3, 2, 1] and entry.shadow_scores == [-score for score in entry.scores]


def test_a_version_that_fails_keeps_nothing_from_anyone(tmp_path: Path) -> None:
    app = Watched(tmp_path)
    app.services.fault = ServiceUnavailable("triton", "version 9 is not loaded")
    for _ in range(20):
        app.get(app.watched)
    time.sleep(0.1)
    last = app.get(app.watched)
    app.end()
    assert "degraded" not in last and last["model_version"] == "7"
    assert app.engine.breakers.states()["triton"] == "closed"
    assert len(app.entries) == 21 and {entry.shadow_version for entry in app.entries} == {None}


class Kept:
    """A log that keeps what it gets."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self.is_closed = False

    def put(self, shown: Shown) -> None:
        self.shown.append(shown)

    def close(self) -> None:
        self.is_closed = True


def shown_to(version: str | None) -> Shown:
    """A list of the stand-ins, whose arms have this version in the shadow."""
    engine = engine_on(Services())
    try:
        found = engine.recommend(1, 3)
    finally:
        engine.close()
    arms = replace(found.arms, settings=found.arms.settings.model_copy(update={"shadow_version": version}))
    return Shown(replace(found, arms=arms), 1, "r", 0)


@pytest.mark.parametrize(
    ("score", "outcome"),
    [
        (lambda found, version: Shadow(version, [], []), {SCORED: 1}),
        (lambda found, version: None, {}),  # popular items have no shadow
        (lambda found, version: 1 / 0, {FAILED: 1}),
    ],
)
def test_every_list_is_handed_on(
    score: Callable[[Recommendation, str], Shadow | None], outcome: dict[str, int]
) -> None:
    log, counts = Kept(), Counter[str]()
    shadows = Shadows(score, log, lambda name: counts.update([name]))
    shadows.put(shown_to("9"))
    shadows.put(shown_to(None))
    shadows.close()
    assert len(log.shown) == 2 and log.is_closed and counts == outcome


def test_where_scoring_falls_behind_lists_are_logged_without_a_shadow() -> None:
    log, counts, free = Kept(), Counter[str](), threading.Event()

    def slow(found: Recommendation, version: str) -> Shadow:
        free.wait(5)
        return Shadow(version, [], [])

    shadows, shown = Shadows(slow, log, lambda name: counts.update([name])), shown_to("9")
    began = time.perf_counter()
    for _ in range(WAITING + 10):
        shadows.put(shown)
    assert time.perf_counter() - began < 1 and counts[DROPPED] >= 9 and len(log.shown) == counts[DROPPED]
    free.set()
    shadows.close()
    assert len(log.shown) == WAITING + 10 and counts[SCORED] + counts[DROPPED] == WAITING + 10


def test_closing_loses_no_list_of_a_version_that_hangs() -> None:
    log, counts, free = Kept(), Counter[str](), threading.Event()

    def hangs(found: Recommendation, version: str) -> Shadow | None:
        free.wait(0.5)
        return None

    shadows, shown = Shadows(hangs, log, lambda name: counts.update([name])), shown_to("9")
    for _ in range(50):
        shadows.put(shown)
    began = time.perf_counter()
    shadows.close()
    assert time.perf_counter() - began < 2 and len(log.shown) == 50 and counts[DROPPED] >= 48 and log.is_closed
