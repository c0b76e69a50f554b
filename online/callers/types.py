"""What the callers take and return; nothing mutable is handed along."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from data_exchange_center.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from data_exchange_center.elasticsearch_scores import TERM_BONUS
from data_exchange_center.features import FeatureSet
from data_exchange_center.log_entries import Origin


class ServiceUnavailable(Exception):
    """A service did not respond, or not in time, or with something else than it should."""

    is_expected = True

    def __init__(self, service: str, reason: object) -> None:
        """Keeps the service's name, which the response's `degraded` lists."""
        super().__init__(f"{service} cannot be used: {reason}")
        self.service = service
        self._reason = str(reason)

    def __reduce__(self) -> tuple[type["ServiceUnavailable"], tuple[str, str]]:
        """As it crosses from a worker process: an exception is otherwise made again from its message alone."""
        return type(self), (self.service, self._reason)


class StoreFault(ServiceUnavailable):
    """A service responds, and holds something else than it should: for this user, or of another load.

    It concerns what was asked for, not the service: no breaker opens.
    """


class NodeUnavailable(ServiceUnavailable):
    """One node of a cluster did not respond, and others may.

    It concerns what that node holds, not the service: no breaker opens, which would keep everyone from the others.
    """


@dataclass(frozen=True, slots=True)
class Expected:
    """What the services must hold to be ready.

    Attributes:
        load_digest: of the load; see data_exchange_center/serving_load.py.
        features: the ranking model's features.
        feature_hash: of the features that the models were trained on.
        items: how many there are.
        userid: of a user of the load; None where it has none.
        ranking_version: the version of the ranking model that must be loaded; empty: any.
    """

    load_digest: str
    features: FeatureSet
    feature_hash: str
    items: int
    userid: int | None
    ranking_version: str = ""

    def check_model(self, model: "ServedModel") -> None:
        """Raises StoreFault unless the model knows the same features and ids, and is of the same load.

        Triton works, so that its breaker stays closed; but index 7 of another model is another user.
        """
        for what, served, own in (
            ("was trained on features with the hash", model.feature_hash, self.feature_hash),
            ("is of the load", model.load_digest, self.load_digest),
        ):
            if served != own:
                has = f"version {model.version} of its model {what} {served or 'none'}, and the artefacts have {own}"
                raise StoreFault("triton", f"{has}: run `make load`")


def lost_user(service: str, userid: int) -> StoreFault:
    """The fault of a store that does not know a user whom the artefacts know: that is no new user."""
    return StoreFault(service, f"it has lost user {userid}, whom the artefacts know: run `make load`")


@dataclass(frozen=True, slots=True)
class Impression:
    """A rated item; `timestamp` in seconds since 1970.

    `origin` is how it came, where it is an event that is to be logged; no part of the impression, and not stored with
    the user.
    """

    itemid: int
    rating: float
    timestamp: int
    origin: Origin | None = field(default=None, compare=False, repr=False)

    @property
    def stored(self) -> tuple[int, float, int]:
        """As the recall store keeps it."""
        return self.itemid, self.rating, self.timestamp


@dataclass(frozen=True, slots=True)
class UserRecall:
    """A user as the recall store holds them.

    Attributes:
        terms: liked genres.
        vector: empty where there is none yet.
        seen: items that recall leaves out.
        recent: the last RANKER_IMPRESSIONS, oldest first.
    """

    terms: tuple[str, ...]
    vector: tuple[float, ...]
    seen: tuple[int, ...]
    recent: tuple[Impression, ...] = ()


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items a list may hold.

    Attributes:
        genres: an item has at least one of them, where there are any.
        genres_out: it has none of these.
        year_from, year_to: the bounds of its year, both included; an item without a year is in no bounds.
        left_out: ids of items that it is none of.
    """

    genres: tuple[str, ...] = ()
    genres_out: tuple[str, ...] = ()
    year_from: int | None = None
    year_to: int | None = None
    left_out: tuple[int, ...] = ()

    @property
    def narrows(self) -> bool:
        """Whether there is an item that it may keep out."""
        return self != EVERYTHING


EVERYTHING = ItemFilter()


@dataclass(frozen=True, slots=True)
class LiveUser:
    """What an event changes in Redis: liked genres, items seen, and the last TOWER_IMPRESSIONS, oldest first.

    `events` are all accepted since the last load, by arrival: an event that is among them, or in `recent`, has been
    counted.
    """

    terms: tuple[str, ...]
    seen: tuple[int, ...]
    recent: tuple[Impression, ...]
    events: tuple[Impression, ...]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the loaded model declares about itself; the loader writes it into the model's configuration.

    Of the ranking model the configuration tells what all loaded versions have in common, which is all but the digest of
    the weights: a configuration that changed with each version would make Triton load all of them again.
    """

    version: str
    columns: tuple[str, ...]
    feature_hash: str
    state_digest: str
    load_digest: str = ""


class RankingScores(NamedTuple):
    """The ranking model's outputs for b requests of m candidates each.

    Attributes:
        logits: [b, m] of the probability that the user likes what they choose to rate.
        rank_scores: [b, m] by which a list is ordered.
    """

    logits: Float32Array
    rank_scores: Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The n recalled items, column by column, in the order of the recall index.

    Attributes:
        itemids: [n].
        scores: [n] the inner product of the user's vector with the item's, plus TERM_BONUS for an item with a genre
            that the user likes; see data_exchange_center/elasticsearch_scores.py.
        by_term, by_vector: [n] which query found the item.
    """

    itemids: Int64Array
    scores: Float64Array
    by_term: BoolArray
    by_vector: BoolArray

    def __len__(self) -> int:
        """The number of candidates."""
        return len(self.itemids)

    @property
    def nearness(self) -> Float64Array:
        """[n] the inner products alone: by descending nearness, what the vector query found is in its own order."""
        nearness: Float64Array = self.scores - TERM_BONUS * self.by_term
        return nearness


class SimilarItem(NamedTuple):
    """A neighbour of an item, and how near it is; the nearest has the highest score."""

    itemid: int
    score: float


NO_CANDIDATES = Candidates(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.bool_), np.empty(0, np.bool_))


class ScoredItem(NamedTuple):
    """One line of the response.

    Attributes:
        score: the rank score; where the ranking model was not used, the recall score.
        logit: None where it was not used.
    """

    itemid: int
    score: float
    recall_score: float
    logit: float | None
    recalled_by: tuple[str, ...]
