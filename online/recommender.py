"""A request's way from a userid to a top list, and an event's into the stores; free of Flask.

A service that does not answer is left out, and the answer says so in `degraded`. After FAILURES in a row it is not
even asked for RETRY_SECONDS: a circuit breaker, so that a dead service costs requests nothing, and a reviving one is
not stormed.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pybreaker

from data_exchange_center.assembler import UNKNOWN_USER, USER_COLUMNS, assemble
from data_exchange_center.catalogue import ArtefactError
from data_exchange_center.features import Entity
from data_exchange_center.scoring import final_scores, recall_scores
from online.callers.types import (
    NO_CANDIDATES,
    Candidates,
    Impression,
    LiveUser,
    ScoredItem,
    ServedModel,
    ServiceUnavailable,
    UserRecall,
)
from online.events import add_events, history_features
from online.serving_data import NO_ITEMS, ItemFeatures, ServingData

logger = logging.getLogger(__name__)

COLD_START = "cold_start"
RECALLED_BY = ((), ("term",), ("vector",), ("term", "vector"))  # by whether the terms, + 2 if the vector, found it
FAILURES = 3
RETRY_SECONDS = 1.0
# Item features in one request, and seconds to the next: at once while there are none, else without holding up anyone.
FIRST_READING, REFRESH = (500, 0.0), (25, 0.02)

Values = npt.NDArray[np.int64]
Known = npt.NDArray[np.bool_]


class RecallStore(Protocol):
    """Redis, or what stands for it."""

    def user(self, userid: int) -> UserRecall | None:
        """The user's recall data; None for an unknown user."""

    def recent(self, userids: Sequence[int]) -> list[tuple[Impression, ...]]:
        """The impressions in each user's window, oldest first."""

    def update(self, userid: int, change: Callable[[LiveUser], LiveUser]) -> LiveUser:
        """Changes a user in one transaction."""

    def pushed(self, userid: int) -> None:
        """Notes that Feast is up to date."""

    def unpushed(self) -> list[int]:
        """Users with whom Feast is not."""

    def ping(self) -> None:
        """Raises ServiceUnavailable unless it can be used."""


class RecallIndex(Protocol):
    """Elasticsearch, or what stands for it."""

    def recall(self, user: UserRecall, items: int) -> Candidates:
        """Candidates of a catalogue of so many items, best first."""

    def ping(self) -> None:
        """Raises ServiceUnavailable unless it can be used."""


class FeatureStore(Protocol):
    """Feast, or what stands for it."""

    def features(self, entity: Entity, ids: Sequence[int]) -> tuple[Values, Known]:
        """Values [n, columns] and whether each is known [n]."""

    def all_features(self, entity: Entity, ids: Sequence[int]) -> tuple[Values, Known]:
        """The same for any number."""

    def ask(self, entity: Entity, ids: Sequence[int]) -> Callable[[], tuple[Values, Known]]:
        """The same, sent at once and answered when what is returned is called."""

    def push_user(self, userid: int, values: Mapping[str, int], moment_ns: int) -> None:
        """Replaces a user's features, unless later ones are there."""

    def ping(self) -> None:
        """Raises ServiceUnavailable unless it can be used."""


class RankingModel(Protocol):
    """Triton, or what stands for it."""

    def score(self, sparse: Values, dense: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], ServedModel]:
        """Logits [n] and the model that made them."""

    def ping(self) -> None:
        """Raises ServiceUnavailable unless it can be used."""


@dataclass(frozen=True)
class Callers:
    """The four services."""

    redis: RecallStore
    elasticsearch: RecallIndex
    feast: FeatureStore
    triton: RankingModel


SERVICES = ("redis", "elasticsearch", "feast", "triton")


@dataclass(frozen=True)
class Snapshot:
    """What a request goes by from beginning to end, replaced as a whole when something changes."""

    data: ServingData
    items: ItemFeatures


@dataclass
class Recommendation:
    """An answer in the making; `stages` are seconds."""

    snapshot: Snapshot
    items: list[ScoredItem] = field(default_factory=list)
    model_version: str | None = None
    blend_weight: float | None = None
    fallback: str | None = None
    degraded: list[str] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    candidates: Candidates = NO_CANDIDATES
    user: UserRecall | None = None
    user_features: Values | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage; a service that cannot be used in it is noted as degraded and the exception passed on."""
        start = time.perf_counter()
        try:
            yield
        except ServiceUnavailable as error:
            self.degraded.append(error.service)
            raise
        finally:
            self.stages[name] = time.perf_counter() - start


class Breakers:
    """A circuit breaker for each service."""

    def __init__(self) -> None:
        """All closed."""
        self._breakers = {
            name: pybreaker.CircuitBreaker(
                fail_max=FAILURES, reset_timeout=RETRY_SECONDS, name=name, throw_new_error_on_trip=False
            )
            for name in SERVICES
        }

    @contextmanager
    def use(self, service: str) -> Iterator[None]:
        """Around a call.

        Raises:
            ServiceUnavailable: the service failed lately and is left alone.
        """
        try:
            with self._breakers[service].calling():
                yield
        except pybreaker.CircuitBreakerError as error:
            raise ServiceUnavailable(service, "failed lately and is left alone for a moment") from error
        except ServiceUnavailable as error:
            logger.warning("%s", error)
            raise

    def states(self) -> dict[str, str]:
        """closed, open or half-open, by service."""
        return {name: breaker.current_state for name, breaker in self._breakers.items()}


class Recommender:
    """Answers requests; one for the life of the process, used by many threads."""

    def __init__(
        self,
        callers: Callers,
        load: Callable[[], ServingData],
        refresh_seconds: float,
        threads: int,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        """Reads the items' features, and goes on trying in the background where Feast does not answer.

        Args:
            callers: the four services.
            load: reads what comes from the artefacts.
            refresh_seconds: between two readings of the items' features.
            threads: of the questions whether a service is ready.
            changed: gives another value when `load` would.
        """
        self._callers = callers
        self._load = load
        self._changed = changed
        self._state = changed()
        self._breakers = Breakers()
        self._snapshot = Snapshot(load(), NO_ITEMS)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ready")
        self._refresh_seconds = refresh_seconds
        self._closed = threading.Event()
        self._behind = False  # whether an event could not be pushed to Feast
        self.refresh()
        threading.Thread(target=self._keep_fresh, name="refresh", daemon=True).start()

    def close(self) -> None:
        """Ends the background threads."""
        self._closed.set()
        self._pool.shutdown(wait=False)

    @property
    def data(self) -> ServingData:
        """What came from the artefacts."""
        return self._snapshot.data

    # --- freshness -----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Reads artefacts that changed and the items' features; what cannot be read stays as it was."""
        data, items = self._snapshot.data, self._snapshot.items
        try:
            state = self._changed()
            if state != self._state:
                data, self._state = self._load(), state
            with self._breakers.use("feast"):
                pace = FIRST_READING if items is NO_ITEMS else REFRESH
                items = ItemFeatures.read(self._callers.feast, list(data.titles), *pace)
        except (ArtefactError, ServiceUnavailable) as error:
            logger.warning("not refreshed: %s", error)
        self._snapshot = Snapshot(data, items)
        self._push_the_unpushed()

    def _keep_fresh(self) -> None:
        due = time.monotonic() + self._refresh_seconds
        while not self._closed.wait(min(RETRY_SECONDS, self._refresh_seconds)):
            try:
                if time.monotonic() >= due or self._snapshot.items is NO_ITEMS:
                    self.refresh()
                    due = time.monotonic() + self._refresh_seconds
                elif self._behind:
                    self._push_the_unpushed()
            except Exception:  # a thread that ends silently would serve old titles for ever
                logger.exception("refresh failed")

    # --- recommendations -----------------------------------------------------------------------------------------

    def recommend(self, userid: int, size: int) -> Recommendation:
        """The top `size` items for a user.

        Args:
            userid: as in the raw data; an unknown one gets popular items.
            size: at most so many items.
        """
        answer = Recommendation(self._snapshot)
        try:
            with answer.stage("redis"), self._breakers.use("redis"):
                user = answer.user = self._callers.redis.user(userid)
        except ServiceUnavailable:
            return self._popular(answer, size, ())
        if user is None or not (user.vector or user.terms):
            answer.fallback = COLD_START
            return self._popular(answer, size, user.seen if user else ())
        recalled: bool | None = None
        answer.user_features = UNKNOWN_USER
        try:
            with self._breakers.use("feast"):
                told = self._callers.feast.ask("user", [userid])
                recalled = self._recall(answer, user)  # while Feast is at work
                with answer.stage("feast"):  # what it takes longer
                    answer.user_features = self._checked(userid, *told())
        except ServiceUnavailable:
            if recalled is None:  # Feast could not even be asked
                answer.degraded.append("feast")
                recalled = self._recall(answer, user)
        if not recalled:
            return self._popular(answer, size, user.seen)
        return self._rank(answer, answer.user_features, size)

    def _recall(self, answer: Recommendation, user: UserRecall) -> bool:
        """Whether Elasticsearch could be used; its candidates are then in the answer."""
        try:
            with answer.stage("elasticsearch"), self._breakers.use("elasticsearch"):
                answer.candidates = self._callers.elasticsearch.recall(user, len(answer.snapshot.data.titles))
        except ServiceUnavailable:
            return False
        return True

    def _checked(self, userid: int, values: Values, known: Known) -> Values:
        """[40] the user's features; zeros for an unknown user.

        Raises:
            ServiceUnavailable: a value is none that the model knows.
        """
        sizes = self._snapshot.data.sizes
        for name, value in zip(USER_COLUMNS, values[0].tolist(), strict=True):
            if not 0 <= value < sizes.get(name, 256):
                raise ServiceUnavailable("feast", f"{name} of user {userid} is {value}")
        return values[0] if known[0] else UNKNOWN_USER

    def _rank(self, answer: Recommendation, user: Values, size: int) -> Recommendation:
        candidates, snapshot = answer.candidates, answer.snapshot
        ids = candidates.itemids
        recall = recall_scores(candidates.es_scores, candidates.by_term, candidates.by_vector)
        if snapshot.items is NO_ITEMS:
            answer.degraded.append("feast")
        logits: npt.NDArray[np.float32] | None = None
        scores = recall
        if len(candidates):
            try:
                with answer.stage("triton"), self._breakers.use("triton"):
                    logits, model = self._callers.triton.score(*assemble(user, snapshot.items.of(ids)))
            except ServiceUnavailable:
                pass
            else:
                if model.feature_hash == snapshot.data.feature_hash:
                    answer.model_version, answer.blend_weight = model.version, model.blend_weight
                    scores = final_scores(logits.astype(np.float64), recall, model.blend_weight)
                else:  # it answers, so that its breaker stays closed; but its index 7 is another user
                    logger.warning(
                        "version %s of the model was trained on features with the hash %s, the artefacts have %s: "
                        "run `make load`.",
                        model.version,
                        model.feature_hash or "none",
                        snapshot.data.feature_hash,
                    )
                    logits = None
                    answer.degraded.append("triton")
        top = np.lexsort((ids, -scores))[:size]
        said = [None] * len(top) if logits is None else logits[top].tolist()
        found_by = [RECALLED_BY[which] for which in (candidates.by_term + 2 * candidates.by_vector)[top].tolist()]
        columns = (ids[top].tolist(), scores[top].tolist(), recall[top].tolist(), said, found_by)
        answer.items = [ScoredItem(*line) for line in zip(*columns, strict=True)]
        return answer

    def _popular(self, answer: Recommendation, size: int, seen: Sequence[int]) -> Recommendation:
        """Popular items of the training window that the user has not seen."""
        left_out = set(seen)
        first = answer.snapshot.data.popular[: size + len(left_out)]
        chosen = [(item, share) for item, share in first if item not in left_out]
        answer.items = [ScoredItem(item, share, share, None, ("popular",)) for item, share in chosen[:size]]
        return answer

    # --- events --------------------------------------------------------------------------------------------------

    def record(self, userid: int, events: Sequence[Impression]) -> tuple[int, bool]:
        """Takes events into the user's filter, liked genres and history window.

        Redis decides: once it has them, they count. Where Feast does not answer, its part follows in the background.

        Args:
            userid: known or not.
            events: in order of arrival; every item has a title.

        Returns:
            How many were new; whether Feast has them too.

        Raises:
            ServiceUnavailable: Redis does not answer; nothing was changed.
        """
        titles, new = self._snapshot.data.titles, 0

        def change(user: LiveUser) -> LiveUser:
            nonlocal new
            after = add_events(user, events, titles)
            new = len(after.events) - len(user.events)
            return after

        with self._breakers.use("redis"):
            self._callers.redis.update(userid, change)
        if not new:
            return 0, True
        try:
            self._push(userid)
        except ServiceUnavailable:
            self._behind = True
            return new, False
        return new, True

    def _push(self, userid: int) -> None:
        """Brings the user's features in Feast up to date with the window in Redis."""
        moment = time.time_ns()  # before the reading: of two pushes at once, the one that read later wins
        with self._breakers.use("redis"):
            (recent,) = self._callers.redis.recent([userid])
        with self._breakers.use("feast"):
            values, known = self._callers.feast.features("user", [userid])
            row = dict(zip(USER_COLUMNS, (values[0] if known[0] else UNKNOWN_USER).tolist(), strict=True))
            row.update(history_features(recent, self._snapshot.data.titles))
            self._callers.feast.push_user(userid, row, moment)
        with self._breakers.use("redis"):
            self._callers.redis.pushed(userid)

    def _push_the_unpushed(self) -> None:
        try:
            with self._breakers.use("redis"):
                waiting = self._callers.redis.unpushed()
            for userid in waiting:
                self._push(userid)
            self._behind = False
        except ServiceUnavailable as error:
            logger.warning("events wait for Feast: %s", error)

    def history(self, userid: int) -> tuple[Impression, ...]:
        """The user's latest impressions, the newest first.

        Raises:
            ServiceUnavailable: Redis does not answer.
        """
        with self._breakers.use("redis"):
            return self._callers.redis.recent([userid])[0][::-1]

    # --- readiness -----------------------------------------------------------------------------------------------

    def missing(self) -> dict[str, str]:
        """The services that cannot be used now, with the reason; asked all at once, past the breakers."""
        asked = {name: self._pool.submit(getattr(self._callers, name).ping) for name in SERVICES}
        faults = {}
        for name, answer in asked.items():
            try:
                answer.result(timeout=1)
            except (ServiceUnavailable, TimeoutError) as error:
                faults[name] = str(error) or "no answer within 1 s"
        return faults

    def breaker_states(self) -> dict[str, str]:
        """closed, open or half-open, by service."""
        return self._breakers.states()
