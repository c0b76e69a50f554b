"""Establishes that a request is scored by the version that is served when it begins, whoever can tell meanwhile."""

import time
from collections.abc import Iterator

import pytest

from online.callers.types import ServiceUnavailable
from online.engine import Engine
from online.main.app import create_app
from online.recommender import Recommender
from online.served_version import LOOK_SECONDS
from tests.online.stand_ins import Services, backends_of, engine_on


class Promoted:
    """The version that is served; None: nobody can tell."""

    def __init__(self, version: str | None) -> None:
        self.version = version

    def served(self) -> str:
        if self.version is None:
            raise ServiceUnavailable("redis", "down")
        return self.version


@pytest.fixture
def promoted() -> Promoted:
    return Promoted("5")


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def engine(services: Services, promoted: Promoted) -> Iterator[Engine]:
    made = engine_on(services, promoted_version=promoted)
    yield made
    made.close()


def scored_by(engine: Engine, services: Services) -> str:
    assert not engine.recommend(1, 3).degraded
    return services.saw_version


def test_a_promoted_version_scores_at_once_and_stays_while_nobody_can_tell(
    engine: Engine, services: Services, promoted: Promoted
) -> None:
    assert scored_by(engine, services) == "5" and engine.snapshot.expected.ranking_version == "5"
    began = engine.snapshot
    promoted.version = "6"
    deadline = time.monotonic() + 10 * LOOK_SECONDS
    while scored_by(engine, services) != "6":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # What began before goes by its version to its end.
    Recommender(backends_of(services), engine.breakers).recommend(began, 1, 3)
    assert services.saw_version == "5"
    promoted.version = None
    engine.served_version.look()
    time.sleep(2 * LOOK_SECONDS)
    assert engine.snapshot.ranking_version == "6"


def test_without_a_promotion_the_newest_scores() -> None:
    services = Services()
    engine = engine_on(services)
    assert scored_by(engine, services) == "" and engine.snapshot.expected.ranking_version == ""
    engine.close()


def test_ready_says_which_version_is_served(engine: Engine) -> None:
    response = create_app(engine=engine).test_client().get("/ready").json
    assert response is not None and response["ready"] is True and response["ranking_version"] == "5"
