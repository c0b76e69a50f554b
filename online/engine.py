"""All that the server holds for the life of its process, without the web framework."""

import itertools
import time
from collections.abc import Callable

from online.breakers import Breakers
from online.experiments import NO_EXPERIMENTS, Experiments
from online.freshness import Freshness
from online.readiness import Readiness
from online.recommendation import Recommendation
from online.recommender import Recommender
from online.roles import ServingBackends
from online.rules_file import RulesFile
from online.served_version import ServedVersion
from online.serving_data import ServingData
from online.similar_items import SimilarItems
from online.snapshot import Snapshot
from online.tracing import NO_TRACER, Tracer
from online.user_events import UserEvents

REFRESH_SECONDS = 60.0
WARM_UP_SECONDS = 5.0
WARM_UP_PAUSE = 0.25  # after a service that did not respond in time
WARM_UP_USERS = 8
WARM_UP_SIZE = 50


class Engine:
    """The parts that serve requests, on one set of backends and breakers; used by many threads."""

    def __init__(
        self,
        backends: ServingBackends,
        load: Callable[[], ServingData] = ServingData.load,
        changed: Callable[[], object] = ServingData.state,
        refresh_seconds: float = REFRESH_SECONDS,
        threads: int = 16,
        rules: RulesFile | None = None,
        tracer: Tracer = NO_TRACER,
        experiments: Experiments = NO_EXPERIMENTS,
    ) -> None:
        """Reads the artefacts and the items' features, and goes on in the background where a service is missing.

        Args:
            backends: who plays the four roles.
            load: reads what comes from the artefacts.
            changed: gives another value when `load` would.
            refresh_seconds: between two readings of the items' features.
            threads: for the question whether the services are ready.
            rules: that act on every list.
            tracer: notes the calls of requests.
            experiments: of which users have arms.

        Raises:
            RulesError: the file of rules is wrong.
        """
        self.rules, self.experiments = rules or RulesFile(), experiments
        self.breakers = Breakers(tracer)
        self.recommender = Recommender(backends, self.breakers, self.rules)
        self.similar_items = SimilarItems(backends, self.breakers)
        self.user_events = UserEvents(backends, self.breakers)
        self.readiness = Readiness(backends, threads)
        self.freshness = Freshness(
            backends.recall_store, backends.feature_store, self.breakers, self.user_events, load, changed
        )
        self.served_version = ServedVersion(backends.promoted_version, self.breakers)
        self.served_version.start()
        self.rules.start(self.snapshot.data)
        self.freshness.start(refresh_seconds)

    @property
    def snapshot(self) -> Snapshot:
        """The present snapshot. A request takes it once, at its beginning."""
        return self.freshness.snapshot.with_ranking_version(self.served_version.version)

    def recommend(self, userid: int, size: int) -> Recommendation:
        """The top `size` items for a user, by the present snapshot."""
        return self.recommender.recommend(self.snapshot, userid, size)

    def warm_up(self, seconds: float = WARM_UP_SECONDS) -> None:
        """Makes recommendations for known users until the services respond in time, or the seconds are over.

        A service's first answers take many times as long as its later ones: they would be too late for a request.
        """
        end, in_time = time.monotonic() + seconds, 0
        for userid in itertools.cycle(self.snapshot.data.users[:WARM_UP_USERS]):
            is_degraded = bool(self.recommend(userid, WARM_UP_SIZE).degraded)
            in_time = 0 if is_degraded else in_time + 1
            if in_time >= WARM_UP_USERS or time.monotonic() >= end:
                return
            if is_degraded:
                time.sleep(WARM_UP_PAUSE)

    def close(self) -> None:
        """Ends the background threads."""
        self.served_version.close()
        self.freshness.close()
        self.readiness.close()
