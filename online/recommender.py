"""A request's way from a userid to a top list, free of Flask: recall, features, ranking, blend.

A service that does not answer is left out, and the answer says so in `degraded`.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from data_exchange_center import catalogue
from data_exchange_center.assembler import UNKNOWN_ITEM, UNKNOWN_USER, assemble
from data_exchange_center.columns import GENRES, ITEMID, POSITIVES, TITLE
from data_exchange_center.features import COLUMNS, Entity, feature_hash, vocabulary_sizes
from data_exchange_center.scoring import final_scores, recall_scores
from online.callers.types import Candidate, ScoredItem, ServiceUnavailable, UserRecall

logger = logging.getLogger(__name__)

COLD_START = "cold_start"
READS = (catalogue.DATASET, catalogue.ITEMS, catalogue.POPULAR_ITEMS, catalogue.BLEND)


class RecallStore(Protocol):
    """Redis, or what stands for it."""

    def user(self, userid: int) -> UserRecall | None:
        """The user's recall data; None for an unknown user."""


class RecallIndex(Protocol):
    """Elasticsearch, or what stands for it."""

    def recall(self, user: UserRecall) -> list[Candidate]:
        """Candidates, best first."""


class FeatureStore(Protocol):
    """Feast, or what stands for it."""

    def features(self, entity: Entity, ids: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Values [n, columns] and whether each is known [n]."""

    def all_features(self, entity: Entity, ids: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The same for any number."""


class RankingModel(Protocol):
    """Triton, or what stands for it."""

    def score(
        self, sparse: npt.NDArray[np.int64], dense: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], str]:
        """Logits [n] and the model's version."""


@dataclass(frozen=True)
class Callers:
    """The four services."""

    redis: RecallStore
    elasticsearch: RecallIndex
    feast: FeatureStore
    triton: RankingModel


@dataclass(frozen=True)
class Title:
    """What a person reads of an item."""

    title: str
    genres: tuple[str, ...]


@dataclass(frozen=True)
class ServingData:
    """What the server takes from the artefacts."""

    dataset: str
    feature_hash: str
    titles: dict[int, Title]
    popular: tuple[tuple[int, float], ...]  # (itemid, share of the most popular item's positives), most first
    blend_weight: float

    @classmethod
    def load(cls) -> "ServingData":
        """From the catalogue.

        Raises:
            ArtefactError: an artefact is missing; the message names the stage to run.
        """
        dataset = catalogue.load_json(catalogue.DATASET)
        items, popular = catalogue.load_table(catalogue.ITEMS), catalogue.load_table(catalogue.POPULAR_ITEMS)
        names = zip(items[ITEMID].to_pylist(), items[TITLE].to_pylist(), items[GENRES].to_pylist(), strict=True)
        positives = popular[POSITIVES].to_pylist()
        most = max(positives, default=1) or 1
        return cls(
            dataset=dataset["dataset"],
            feature_hash=feature_hash(COLUMNS, vocabulary_sizes(dataset["id_sizes"]), dataset["id_digest"]),
            titles={itemid: Title(title, tuple(genres)) for itemid, title, genres in names},
            popular=tuple(zip(popular[ITEMID].to_pylist(), (p / most for p in positives), strict=True)),
            blend_weight=catalogue.load_json(catalogue.BLEND)["weight"],
        )


@dataclass
class Recommendation:
    """An answer in the making; `stages` are seconds."""

    items: list[ScoredItem] = field(default_factory=list)
    model_version: str | None = None
    fallback: str | None = None
    degraded: list[str] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    candidates: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage; a service that cannot be used in it is noted as degraded and the exception passed on."""
        start = time.perf_counter()
        try:
            yield
        except ServiceUnavailable as error:
            logger.warning("%s", error)
            self.degraded.append(error.service)
            raise
        finally:
            self.stages[name] = time.perf_counter() - start


class ItemFeatures:
    """All items' features, read from Feast in one go and kept; replaced as a whole by `refresh`."""

    def __init__(self, feast: FeatureStore, itemids: Sequence[int]) -> None:
        """Reads nothing yet.

        Args:
            feast: where from.
            itemids: which, sorted.
        """
        self._feast = feast
        self._ids = np.array(itemids, np.int64)
        self._values: npt.NDArray[np.int64] | None = None

    @property
    def loaded(self) -> bool:
        """Whether they were read."""
        return self._values is not None

    def refresh(self) -> None:
        """Reads all of them.

        Raises:
            ServiceUnavailable: Feast does not answer; what was read before stays.
        """
        values, _ = self._feast.all_features("item", self._ids.tolist())
        self._values = values

    def of(self, itemids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """[n, 19] features; those of an unknown item are zeros."""
        if self._values is None or not len(self._ids):
            return np.tile(UNKNOWN_ITEM, (len(itemids), 1))
        at = np.minimum(np.searchsorted(self._ids, itemids), len(self._ids) - 1)
        return np.where((self._ids[at] == itemids)[:, None], self._values[at], UNKNOWN_ITEM)


class Recommender:
    """Answers requests; one for the life of the process, used by many threads."""

    def __init__(self, callers: Callers, data: ServingData, refresh_seconds: float, threads: int) -> None:
        """Reads the items' features, and goes on trying in the background where Feast does not answer.

        Args:
            callers: the four services.
            data: from the artefacts.
            refresh_seconds: between two readings of the items' features.
            threads: requests served at once; each may have one call to Feast under way beside the others.
        """
        self._callers = callers
        self.data = data
        self._items = ItemFeatures(callers.feast, sorted(data.titles))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="feast")
        self._refresh_seconds = refresh_seconds
        self._closed = threading.Event()
        self._refresh()
        threading.Thread(target=self._keep_fresh, name="item-features", daemon=True).start()

    def close(self) -> None:
        """Ends the background threads."""
        self._closed.set()
        self._pool.shutdown(wait=False)

    def _refresh(self) -> None:
        try:
            self._items.refresh()
        except ServiceUnavailable as error:
            logger.warning("item features are not refreshed: %s", error)

    def _keep_fresh(self) -> None:
        # Without any features yet, ask often.
        while not self._closed.wait(self._refresh_seconds if self._items.loaded else min(1.0, self._refresh_seconds)):
            self._refresh()

    def recommend(self, userid: int, size: int) -> Recommendation:
        """The top `size` items for a user.

        Args:
            userid: as in the raw data; an unknown one gets popular items.
            size: at most so many items.
        """
        answer = Recommendation()
        features = self._pool.submit(self._callers.feast.features, "user", [userid])  # while recall is under way
        try:
            with answer.stage("redis"):
                user = self._callers.redis.user(userid)
        except ServiceUnavailable:
            return self._popular(answer, size, ())
        if user is None:
            answer.fallback = COLD_START
            return self._popular(answer, size, ())
        try:
            with answer.stage("elasticsearch"):
                candidates = self._callers.elasticsearch.recall(user)
        except ServiceUnavailable:
            return self._popular(answer, size, user.seen)
        answer.candidates = len(candidates)
        return self._rank(answer, candidates, self._user_features(answer, features), size)

    def _user_features(
        self, answer: Recommendation, features: "Future[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]"
    ) -> npt.NDArray[np.int64]:
        try:
            with answer.stage("feast"):
                values, known = features.result()
        except ServiceUnavailable:
            return UNKNOWN_USER
        return values[0] if known[0] else UNKNOWN_USER

    def _rank(
        self, answer: Recommendation, candidates: list[Candidate], user: npt.NDArray[np.int64], size: int
    ) -> Recommendation:
        ids = np.array([c.itemid for c in candidates], np.int64)
        recall = recall_scores(
            np.array([c.es_score for c in candidates], np.float64),
            np.array([c.by_term for c in candidates], bool),
            np.array([c.by_vector for c in candidates], bool),
        )
        logits: npt.NDArray[np.float32] | None = None
        if not self._items.loaded and "feast" not in answer.degraded:
            answer.degraded.append("feast")
        if candidates:
            try:
                with answer.stage("triton"):
                    logits, answer.model_version = self._callers.triton.score(*assemble(user, self._items.of(ids)))
            except ServiceUnavailable:
                pass
        scores = recall if logits is None else final_scores(logits.astype(np.float64), recall, self.data.blend_weight)
        answer.items = [
            ScoredItem(
                itemid=int(ids[at]),
                score=float(scores[at]),
                recall_score=float(recall[at]),
                logit=None if logits is None else float(logits[at]),
                recalled_by=_recalled_by(candidates[at]),
            )
            for at in np.lexsort((ids, -scores))[:size]
        ]
        return answer

    def _popular(self, answer: Recommendation, size: int, seen: Sequence[int]) -> Recommendation:
        """Popular items of the training window that the user has not seen."""
        left_out = set(seen)
        chosen = [(item, share) for item, share in self.data.popular[: size + len(left_out)] if item not in left_out]
        answer.items = [ScoredItem(item, share, share, None, ("popular",)) for item, share in chosen[:size]]
        return answer


def _recalled_by(candidate: Candidate) -> tuple[str, ...]:
    return ("term",) * candidate.by_term + ("vector",) * candidate.by_vector
