"""What comes of a request: the list, how it came about, and the services that it had to do without."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from data_exchange_center.arrays import Float32Array, Int64Array
from online.arms import NO_ARMS, Arms
from online.callers.types import (
    NO_CANDIDATES,
    Candidates,
    ScoredItem,
    ServedModel,
    ServiceUnavailable,
    UserRecall,
)
from online.list_options import PLAIN, ListOptions
from online.roles import FEAST
from online.rules import NO_RULES, Rules
from online.snapshot import Snapshot

Value = TypeVar("Value")


@dataclass(frozen=True)
class Step(Generic[Value]):
    """One service's part in a request.

    Attributes:
        service: the service's name.
        value: what it responded with; None where it could not be used.
        seconds: how long the request waited for it.
        available: whether it could be used.
    """

    service: str
    value: Value | None
    seconds: float
    available: bool = True

    @classmethod
    def take(cls, service: str, call: Callable[[], Value]) -> "Step[Value]":
        """Calls the service. Where that raises ServiceUnavailable, the request goes on without it."""
        start = time.perf_counter()
        try:
            value = call()
        except ServiceUnavailable:
            return cls(service, None, time.perf_counter() - start, available=False)
        return cls(service, value, time.perf_counter() - start)


@dataclass(frozen=True, eq=False)
class Ranking:
    """The ranking model's part: [n] logits and rank scores of the n candidates, and the model that they are of."""

    logits: Float32Array
    rank_scores: Float32Array
    model: ServedModel


@dataclass(frozen=True, eq=False)
class Recommendation:
    """A list for a user, and how it came about.

    Attributes:
        snapshot: what the request went by.
        items: the list, best first.
        steps: the services' parts, in the order of the flow.
        user: the user's recall data; None for an unknown user.
        user_features: [40] as the ranking model got them; None where the request did not come so far.
        candidates: what recall found.
        ranking: the ranking model's part; None where it had none.
        fallback: why the list is of popular items although every service responded.
        options: what the request asked of the list.
        rules: that were in force.
        acted: names of the rules that acted on an item of the list, by its id.
        arms: of the user, in the experiments.
        drafted_from: the two that an interleaved list is of.
        teams: the arm that picked an item of an interleaved list, by the item's id; none for a pinned one.
    """

    snapshot: Snapshot
    items: tuple[ScoredItem, ...]
    steps: tuple[Step[Any], ...]
    user: UserRecall | None = None
    user_features: Int64Array | None = None
    candidates: Candidates = NO_CANDIDATES
    ranking: Ranking | None = None
    fallback: str | None = None
    options: ListOptions = PLAIN
    rules: Rules = NO_RULES
    acted: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    arms: Arms = NO_ARMS
    drafted_from: tuple["Recommendation", ...] = ()
    teams: Mapping[int, str] = field(default_factory=dict)

    @property
    def degraded(self) -> list[str]:
        """The services that could not be used, by name in alphabetical order."""
        unavailable = {step.service for step in self.steps if not step.available}
        if len(self.candidates) and not self.snapshot.has_item_features:
            unavailable.add(FEAST)
        return sorted(unavailable)

    @property
    def is_diverse(self) -> bool:
        """Whether the order was made diverse, which that of popular items never is."""
        return bool(self.options.diversity) and len(self.candidates) > 0

    @property
    def stages(self) -> dict[str, float]:
        """The seconds for which the request waited for each service, in the order in which they were asked first."""
        seconds = dict.fromkeys((step.service for step in self.steps), 0.0)
        for step in self.steps:  # Triton has two parts in the list of a session
            seconds[step.service] += step.seconds
        return seconds

    @property
    def model_version(self) -> str | None:
        """The version of the ranking model, of an interleaved list both joined by +; None where it had no part."""
        rankings = [one.ranking for one in self.drafted_from or (self,)]
        return "+".join(dict.fromkeys(ranking.model.version for ranking in rankings if ranking)) or None
