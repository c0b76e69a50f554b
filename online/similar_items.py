"""A request's way from an item to the items like it."""

from collections.abc import Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from online.breakers import Breakers
from online.callers.types import SimilarItem
from online.recommendation import Step
from online.roles import ELASTICSEARCH, REDIS, ServingBackends
from online.snapshot import Snapshot

SAME_GENRES = "same_genres"
LOOKED_AT = 1000  # most popular items among which those of the same genres are searched for


@dataclass(frozen=True, eq=False)
class Similar:
    """The items like an item, and how the list came about.

    Attributes:
        items: best first.
        steps: the services' parts.
        fallback: SAME_GENRES where the list is made of popular items, because the item has no neighbours, or none that
            can be read now.
    """

    items: tuple[SimilarItem, ...]
    steps: tuple[Step[Any], ...]
    fallback: str | None = None

    @property
    def degraded(self) -> list[str]:
        """The services that could not be used."""
        return [step.service for step in self.steps if not step.available]


class SimilarItems:
    """Lists similar items; one object for the life of the process, used by many threads."""

    def __init__(self, backends: ServingBackends, breakers: Breakers) -> None:
        """Keeps the backends, which are called only where their breaker allows it."""
        self._backends, self._breakers = backends, breakers

    def similar(self, snapshot: Snapshot, itemid: int, size: int, userid: int | None = None) -> Similar:
        """The items most like an item.

        Args:
            snapshot: what the request goes by.
            itemid: of its catalogue.
            size: how many items at most.
            userid: whose seen items are left out.
        """
        found = Step.take(ELASTICSEARCH, partial(self._neighbours, itemid, snapshot))
        steps: tuple[Step[Any], ...] = (found,)
        seen: frozenset[int] = frozenset()
        if userid is not None:
            asked = Step.take(REDIS, partial(self._seen, userid, snapshot))
            steps, seen = (*steps, asked), asked.value or seen
        if not found.value:
            return Similar(of_same_genres(snapshot, itemid, size, seen), steps, SAME_GENRES)
        # The load may name items that the newest artefacts lack for a moment: those have no title.
        items = (line for line in found.value if line.itemid not in seen and line.itemid in snapshot.data.items)
        return Similar(tuple(items)[:size], steps)

    def _neighbours(self, itemid: int, snapshot: Snapshot) -> tuple[SimilarItem, ...]:
        with self._breakers.use(ELASTICSEARCH):
            return self._backends.similar_index.similar(itemid, snapshot.data.load_digest)

    def _seen(self, userid: int, snapshot: Snapshot) -> frozenset[int]:
        with self._breakers.use(REDIS):
            user = self._backends.recall_store.user(userid, snapshot.data.load_digest)
            snapshot.data.check_user(REDIS, userid, user is not None)
        return frozenset(user.seen) if user else frozenset()


def of_same_genres(snapshot: Snapshot, itemid: int, size: int, seen: Set[int] = frozenset()) -> tuple[SimilarItem, ...]:
    """Popular items with a genre of this one: those that share most of their genres first, then the most popular.

    From memory, so that it needs no service; the score is the popularity.
    """
    genres = frozenset(snapshot.data.items[itemid].genres)
    shares = []
    for other, popularity in snapshot.data.popular[:LOOKED_AT]:
        others = frozenset(snapshot.data.items[other].genres)
        if other != itemid and other not in seen and genres & others:
            shares.append((len(genres & others) / len(genres | others), SimilarItem(other, popularity)))
    shares.sort(key=lambda share: -share[0])  # stable: popular items stay first
    return tuple(item for _, item in shares[:size])
