"""All that the server holds for the life of its process, without the web framework."""

from collections.abc import Callable

from online.breakers import Breakers
from online.freshness import Freshness
from online.readiness import Readiness
from online.recommendation import Recommendation
from online.recommender import Recommender
from online.roles import ServingBackends
from online.serving_data import ServingData
from online.snapshot import Snapshot
from online.user_events import UserEvents

REFRESH_SECONDS = 60.0


class Engine:
    """The parts that serve requests, on one set of backends and breakers; used by many threads."""

    def __init__(
        self,
        backends: ServingBackends,
        load: Callable[[], ServingData] = ServingData.load,
        changed: Callable[[], object] = ServingData.state,
        refresh_seconds: float = REFRESH_SECONDS,
        threads: int = 16,
    ) -> None:
        """Reads the artefacts and the items' features, and goes on in the background where a service is missing.

        Args:
            backends: who plays the four roles.
            load: reads what comes from the artefacts.
            changed: gives another value when `load` would.
            refresh_seconds: between two readings of the items' features.
            threads: for the question whether the services are ready.
        """
        self.breakers = Breakers()
        self.recommender = Recommender(backends, self.breakers)
        self.user_events = UserEvents(backends, self.breakers)
        self.readiness = Readiness(backends, threads)
        self.freshness = Freshness(
            backends.recall_store, backends.feature_store, self.breakers, self.user_events, load, changed
        )
        self.freshness.start(refresh_seconds)

    @property
    def snapshot(self) -> Snapshot:
        """The present snapshot. A request takes it once, at its beginning."""
        return self.freshness.snapshot

    def recommend(self, userid: int, size: int) -> Recommendation:
        """The top `size` items for a user, by the present snapshot."""
        return self.recommender.recommend(self.snapshot, userid, size)

    def close(self) -> None:
        """Ends the background threads."""
        self.freshness.close()
        self.readiness.close()
