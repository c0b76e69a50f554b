"""Establishes the request's flow with stand-ins for the services: order, filters, fallbacks, and who is left out."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from data_exchange_center.features import Entity, entity_columns
from online.callers.types import Candidate, ServiceUnavailable, UserRecall
from online.recommender import Callers, Recommender, ServingData, Title

DATA = ServingData(
    dataset="five items",
    feature_hash="h",
    titles={item: Title(f"Item {item}", ("Drama",)) for item in range(1, 6)},
    popular=((5, 1.0), (4, 0.8), (3, 0.6), (2, 0.4), (1, 0.2)),
    blend_weight=0.5,
)
USER = UserRecall(("Drama",), (1.0,), (5, 3))
CANDIDATES = [
    Candidate(1, 0.1 + 0.9 * 3.0, True, True),  # inner product 2
    Candidate(2, 0.9 * 2.0, False, True),  # 1
    Candidate(4, 0.1, True, False),  # found by the terms alone: the least of the others, 1
]


class Services:
    """Answers like the four services; `down` names those that do not."""

    def __init__(self, down: tuple[str, ...] = (), logits: Sequence[float] = (0.0, 4.0, 0.0)) -> None:
        self.down, self.logits = down, logits

    def _call(self, name: str) -> None:
        if name in self.down:
            raise ServiceUnavailable(name, "down")

    def user(self, userid: int) -> UserRecall | None:
        self._call("redis")
        return USER if userid == 1 else None

    def recall(self, user: UserRecall) -> list[Candidate]:
        self._call("elasticsearch")
        return CANDIDATES

    def features(self, entity: Entity, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        self._call("feast")
        return np.ones((len(ids), len(entity_columns(entity))), np.int64), np.ones(len(ids), bool)

    all_features = features

    def score(self, sparse: np.ndarray, dense: np.ndarray) -> tuple[np.ndarray, str]:
        self._call("triton")
        assert sparse.shape == (3, 23) and dense.shape == (3, 36)
        self.saw_features = bool(sparse.any())
        return np.array(self.logits, np.float32), "7"


Make = Callable[[Services], Recommender]


@pytest.fixture
def make() -> Iterator[Make]:
    made = []

    def build(services: Services) -> Recommender:
        made.append(Recommender(Callers(services, services, services, services), DATA, 60.0, 2))
        return made[-1]

    yield build
    for recommender in made:
        recommender.close()


def ids(recommender: Recommender, userid: int = 1, size: int = 50) -> list[int]:
    return [item.itemid for item in recommender.recommend(userid, size).items]


def test_the_order_is_that_of_the_final_score(make: Make) -> None:
    services = Services()
    answer = make(services).recommend(1, 50)
    assert [(i.itemid, i.score, i.recall_score, i.logit) for i in answer.items] == [
        (2, pytest.approx(3.0), pytest.approx(1.0), 4.0),
        (1, pytest.approx(2.0), pytest.approx(2.0), 0.0),
        (4, pytest.approx(1.0), pytest.approx(1.0), 0.0),
    ]
    assert [i.recalled_by for i in answer.items] == [("vector",), ("term", "vector"), ("term",)]
    assert answer.model_version == "7" and services.saw_features and not answer.degraded and not answer.fallback


def test_ties_are_broken_by_item_and_size_cuts(make: Make) -> None:
    assert ids(make(Services(logits=(-2.0, 0.0, 0.0)))) == [1, 2, 4]
    assert ids(make(Services()), size=1) == [2]


def test_an_unknown_user_gets_popular_items(make: Make) -> None:
    answer = make(Services()).recommend(99, 3)
    assert [i.itemid for i in answer.items] == [5, 4, 3]
    assert answer.fallback == "cold_start" and not answer.degraded


@pytest.mark.parametrize(
    ("down", "expected"),
    [
        ("redis", [5, 4, 3, 2, 1]),
        ("elasticsearch", [4, 2, 1]),  # popular, without what the user has seen
        ("feast", [2, 1, 4]),
        ("triton", [1, 2, 4]),  # by the recall score
    ],
)
def test_a_service_that_is_down_is_left_out(make: Make, down: str, expected: list[int]) -> None:
    services = Services((down,))
    recommender = make(services)
    answer = recommender.recommend(1, 50)
    assert [i.itemid for i in answer.items] == expected and set(answer.degraded) == {down}
    services.down = ()
    recommender._refresh()
    assert not recommender.recommend(1, 50).degraded  # and used again when it returns


def test_all_services_down_still_answers(make: Make) -> None:
    assert ids(make(Services(("redis", "elasticsearch", "feast", "triton")))) == [5, 4, 3, 2, 1]
