"""The roles that serve a request, as protocols: each declares what its role does, and nothing about who plays it.

Redis, Elasticsearch, Feast and Triton serve in the server (online/callers/), Elasticsearch and Triton in two roles
each, the artefacts in the evaluation, and small stand-ins in the tests. A role that cannot do its part raises
ServiceUnavailable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from data_exchange_center.arrays import BoolArray, Float32Array, FloatArray, Int64Array
from data_exchange_center.assembler import RankingInputs
from data_exchange_center.features import Entity, FeatureSet
from online.callers.types import (
    EVERYTHING,
    Candidates,
    Expected,
    Impression,
    ItemFilter,
    LiveUser,
    RankingScores,
    ServedModel,
    SimilarItem,
    UserRecall,
)

Features = tuple[Int64Array, BoolArray]  # [n, columns] values, zeros where absent; [n] whether the entity is known


class Pingable(Protocol):
    """A backend that can tell whether it is ready."""

    def ping(self, expected: Expected) -> None:
        """Raises ServiceUnavailable unless it can be used now, and holds what is expected."""


class RecallStore(Pingable, Protocol):
    """Holds what recall needs of each user, and keeps it up to date with events."""

    def loaded(self) -> str | None:
        """The digest of the load that it holds; None where it holds none."""

    def user(self, userid: int, load: str) -> UserRecall | None:
        """The user's recall data of the load with this digest; None for an unknown user."""

    def recent(self, userids: Sequence[int]) -> list[tuple[Impression, ...]]:
        """The last TOWER_IMPRESSIONS of each user, oldest first."""

    def update(self, changes: Mapping[int, Callable[[LiveUser], LiveUser]], load: str) -> dict[int, int]:
        """Changes all of these users in one transaction, and returns how many events each of them gained."""

    def set_vector(self, userid: int, recent: Sequence[Impression], vector: FloatArray) -> bool:
        """Replaces the user's vector by the one after these impressions; False where they are not the last any more."""

    def pushed(self, userid: int) -> None:
        """Notes that vector and feature store follow from the user's last impressions."""

    def unpushed(self) -> list[int]:
        """The users whose vector, or history in the feature store, does not follow from their last impressions yet."""


class RecallIndex(Pingable, Protocol):
    """Finds the candidates for a user among all items."""

    def recall(
        self, user: UserRecall, possible: int, load: str, within: ItemFilter = EVERYTHING, index: str = ""
    ) -> Candidates:
        """Candidates that the user has not seen, of the load with this digest, best first.

        Args:
            user: has a vector, or terms, or both.
            possible: how many items there are to be found; of a narrow filter, too, as many as a list takes are.
            load: the digest.
            within: which items may be found.
            index: another one of the same load, by its name; empty: the served one.
        """


class SimilarIndex(Protocol):
    """Holds the neighbours of each item."""

    def similar(self, itemid: int, load: str) -> tuple[SimilarItem, ...]:
        """The neighbours of an item of the catalogue, of the load with this digest, best first."""


class FeatureStore(Pingable, Protocol):
    """Holds the features of users and items."""

    def features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Features:
        """The features of as many entities as one request may ask for."""

    def all_features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Features:
        """The features of any number of entities."""

    def request_features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Callable[[], Features]:
        """Sends the request for `features` and returns at once; the function returned waits for the response."""

    def push_history(self, declared: FeatureSet, userid: int, counts: Mapping[str, int], moment_ns: int) -> None:
        """Replaces the counts of a user's history window, unless those of a later moment are stored already."""


class RankingModel(Pingable, Protocol):
    """Scores candidates, by any of its versions that are loaded."""

    def score(self, inputs: RankingInputs, version: str = "") -> tuple[RankingScores, ServedModel]:
        """The scores by this version, or by the newest where it is empty, and the model that they are of."""


class PromotedVersion(Protocol):
    """Tells which version of the ranking model is served."""

    def served(self) -> str:
        """The version; empty where none was ever promoted, and the newest is served."""


class NewestVersion:
    """Where no version is ever promoted: there is one ranking model, as in the evaluation."""

    def served(self) -> str:
        """Empty: the newest."""
        return ""


class UserTower(Protocol):
    """Makes a user's vector of their last impressions."""

    def user_vectors(self, items: Int64Array, liked: Int64Array) -> tuple[Float32Array, ServedModel]:
        """[b, dim + 1] the vectors after [b, TOWER_IMPRESSIONS] items and likes, and the model that made them."""


@dataclass(frozen=True)
class ServingBackends:
    """Who plays the roles."""

    recall_store: RecallStore
    recall_index: RecallIndex
    similar_index: SimilarIndex
    feature_store: FeatureStore
    ranking_model: RankingModel
    user_tower: UserTower
    promoted_version: PromotedVersion = NewestVersion()

    def by_service(self) -> dict[str, Pingable]:
        """Each of them, by the name of the service that plays the role in the server."""
        players = (self.recall_store, self.recall_index, self.feature_store, self.ranking_model)
        return dict(zip(SERVICES, players, strict=True))


# The services' names in `degraded`, /ready, Server-Timing and metrics, in the order of the roles above.
REDIS, ELASTICSEARCH, FEAST, TRITON = SERVICES = ("redis", "elasticsearch", "feast", "triton")
