"""Stand-ins for the four services, on a catalogue of five items; no tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data_exchange_center.assembler import RankingInputs
from data_exchange_center.columns import Column
from data_exchange_center.dataset import MOVIELENS_SCALE
from data_exchange_center.elasticsearch_scores import TERM_BONUS
from data_exchange_center.features import Entity, FeatureSet
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from online.callers.types import (
    EVERYTHING,
    Candidates,
    Expected,
    Impression,
    ItemFilter,
    LiveUser,
    RankingScores,
    ServedModel,
    ServiceUnavailable,
    SimilarItem,
    StoreFault,
    UserRecall,
)
from online.engine import Engine
from online.roles import ServingBackends
from online.serving_data import UNKNOWN_ITEM_METADATA, ItemMetadata, ServingData
from testkit.dataset import FEATURES

DATA = ServingData(
    dataset="five items",
    load_digest="l",
    features=FEATURES,
    feature_hash="h",
    vocabulary_sizes=dict.fromkeys(FEATURES.sparse_columns, 2),
    scale=MOVIELENS_SCALE,
    text_ids=frozenset(),
    users=(1,),
    some_users=(1,),
    items={item: ItemMetadata(f"Item {item}", ("Drama",), item) for item in range(1, 6)},
    popular=((5, 1.0), (4, 0.8), (3, 0.6), (2, 0.4), (1, 0.2)),
    vectors=np.zeros((6, 3), np.float32),  # so that no item is like another, and diversity changes nothing
)
USER = UserRecall(("Drama",), (1.0,), (5, 3), (Impression(5, 5.0, 1), Impression(3, 2.0, 2)))
CANDIDATES = Candidates(
    itemids=np.array([1, 2, 4]),
    scores=np.array([2 + TERM_BONUS, 1.0, 1 + TERM_BONUS]),
    by_term=np.array([True, False, True]),
    by_vector=np.array([True, True, False]),
)


SIMILAR = (SimilarItem(3, 0.3), SimilarItem(1, 0.2), SimilarItem(4, 0.1))


class Services:
    """Responds like the four services; `down` names those that do not.

    A user's vector is how many impressions the tower was shown. A rank score is twice the logit.
    """

    def __init__(self, down: tuple[str, ...] = (), logits: Sequence[float] = (0.0, 4.0, 0.0)) -> None:
        self.down, self.logits = down, logits
        self.model = ServedModel("7", (), "h", "", "l")
        self.tower = ServedModel("3", (), "h", "", "l")
        self.load = "l"
        self.users = {1: USER}
        self.found = [0, 1, 2]  # which of the candidates the last search found
        self.items: Mapping[int, ItemMetadata] = DATA.items
        self.live: dict[int, LiveUser] = {}
        self.calls: list[str] = []
        self.in_feast: dict[int, Mapping[str, int]] = {}
        self.waiting: set[int] = set()
        self.lost: set[int] = set()  # of users and items alike, whom the feature store does not know

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.down:
            raise ServiceUnavailable(name, "down")

    def ping(self, expected: Expected) -> None:
        """Which service is asked cannot be told apart here; see the end-to-end test."""

    def loaded(self) -> str | None:
        self._call("redis")
        return self.load

    def recent(self, userids: Sequence[int]) -> list[tuple[Impression, ...]]:
        self._call("redis")
        return [self.live[userid].recent if userid in self.live else () for userid in userids]

    def update(self, changes: Mapping[int, Callable[[LiveUser], LiveUser]], load: str) -> dict[int, int]:
        self._call("redis")
        self._check(load)
        gained = {}
        for userid, change in changes.items():
            user = self.users.get(userid, UserRecall((), (), ()))
            before = self.live.get(userid, LiveUser(user.terms, user.seen, user.recent, ()))
            after = self.live[userid] = change(before)
            gained[userid] = len(after.events) - len(before.events)
            if after is not before:
                vector = self.users[userid].vector if userid in self.users else ()
                self.users[userid] = UserRecall(after.terms, vector, after.seen, after.recent[-RANKER_IMPRESSIONS:])
                self.waiting.add(userid)
        return gained

    def set_vector(self, userid: int, recent: Sequence[Impression], vector: np.ndarray) -> bool:
        self._call("redis")
        if self.live[userid].recent != recent:
            return False
        user = self.users.get(userid, UserRecall((), (), ()))
        self.users[userid] = replace(user, vector=tuple(vector.tolist()))
        return True

    def user_vectors(self, items: np.ndarray, liked: np.ndarray) -> tuple[np.ndarray, ServedModel]:
        self._call("triton")
        assert items.shape == liked.shape == (1, TOWER_IMPRESSIONS) and not (liked & (items == 0)).any()
        return (items > 0).sum(axis=1, keepdims=True).astype(np.float32), self.tower

    def pushed(self, userid: int) -> None:
        self.waiting.discard(userid)

    def unpushed(self) -> list[int]:
        self._call("redis")
        return sorted(self.waiting)

    def push_history(self, declared: FeatureSet, userid: int, counts: Mapping[str, int], moment_ns: int) -> None:
        self._call("feast")
        self.in_feast[userid] = counts

    def _check(self, load: str) -> None:
        if load != self.load:
            raise StoreFault("redis", f"it holds {self.load}")

    def user(self, userid: int, load: str) -> UserRecall | None:
        self._call("redis")
        self._check(load)
        return self.users.get(userid)

    def recall(
        self, user: UserRecall, possible: int, load: str, within: ItemFilter = EVERYTHING, index: str = ""
    ) -> Candidates:
        self._call("elasticsearch")
        self.possible, self.saw_index = possible, index
        return self._passing(CANDIDATES, within)

    def _passing(self, found: Candidates, within: ItemFilter) -> Candidates:
        """Of some candidates those that a filter admits, one by one."""

        def passes(itemid: int) -> bool:
            item = self.items.get(itemid, UNKNOWN_ITEM_METADATA)
            return (
                itemid not in within.left_out
                and (not within.genres or not set(item.genres).isdisjoint(within.genres))
                and set(item.genres).isdisjoint(within.genres_out)
                and (within.year_from is None or (item.year is not None and item.year >= within.year_from))
                and (within.year_to is None or (item.year is not None and item.year <= within.year_to))
            )

        rows = self.found = [row for row, itemid in enumerate(found.itemids.tolist()) if passes(itemid)]
        return Candidates(found.itemids[rows], found.scores[rows], found.by_term[rows], found.by_vector[rows])

    def similar(self, itemid: int, load: str) -> tuple[SimilarItem, ...]:
        self._call("elasticsearch")
        return tuple(line for line in SIMILAR if line.itemid != itemid) if itemid != 5 else ()

    def features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        self._call("feast")
        values = np.ones((len(ids), len(declared.entity_columns(entity))), np.int64)
        if entity == "item":
            values[:, declared.item_columns.index(Column.ITEM_INDEX)] = ids
        return values, np.isin(ids, list(self.lost), invert=True)

    all_features = features

    def request_features(
        self, declared: FeatureSet, entity: Entity, ids: Sequence[int]
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        return lambda: self.features(declared, entity, ids)

    def score(self, inputs: RankingInputs, version: str = "") -> tuple[RankingScores, ServedModel]:
        self._call("triton")
        self.saw_version = version
        count = len(self.found)
        assert inputs.sparse.shape == (1, count, 23) and inputs.dense.shape == (1, count, 36)
        assert inputs.recall.shape == (1, count, 5)
        assert inputs.recent.shape == inputs.liked.shape == (1, RANKER_IMPRESSIONS)
        self.saw_features = bool(inputs.sparse.any())
        self.saw_recent = list(zip(inputs.recent[0].tolist(), inputs.liked[0].tolist(), strict=True))
        logits = np.array([self.logits], np.float32)[:, self.found]
        return RankingScores(logits, 2 * logits), self.model


def backends_of(services: Services, **others: Any) -> ServingBackends:
    """The services in all roles, but for those that `others` play."""
    roles = {name: services for name in ServingBackends.__dataclass_fields__ if name != "promoted_version"}
    return ServingBackends(**{**roles, **others})


Make = Callable[[Services], Engine]


def engine_on(services: Services, **others: Any) -> Engine:
    """The engine on stand-ins; whoever makes it closes it."""
    return Engine(backends_of(services, **others), lambda: DATA, lambda: None, 60.0, 2)
