"""Keeps the snapshot up to date in the background: the artefacts, and the items' features from the feature store."""

import logging
import threading
import time
from collections.abc import Callable

from data_exchange_center.artefact import ArtefactError
from online.breakers import RETRY_SECONDS, Breakers
from online.callers.types import ServiceUnavailable
from online.roles import FEAST, REDIS, FeatureStore, RecallStore
from online.serving_data import ServingData
from online.snapshot import ItemFeatures, Snapshot
from online.user_events import UserEvents

logger = logging.getLogger(__name__)

# How many items one request asks for, and the seconds until the next one: the first reading is quick, since lists are
# degraded until it is done; a later one leaves the feature store to the users' requests most of the time.
FIRST_READING, LATER_READING = (500, 0.0), (25, 0.02)


class Freshness:
    """Holds the present snapshot, and replaces it in a thread of its own."""

    def __init__(
        self,
        recall_store: RecallStore,
        feature_store: FeatureStore,
        breakers: Breakers,
        user_events: UserEvents,
        load: Callable[[], ServingData],
        changed: Callable[[], object],
    ) -> None:
        """Reads everything once.

        Args:
            recall_store: tells which load the stores hold.
            feature_store: has the items' features.
            breakers: theirs are used.
            user_events: whose pending pushes are made, too.
            load: reads what comes from the artefacts.
            changed: gives another value when `load` would.
        """
        self._recall_store, self._feature_store = recall_store, feature_store
        self._breakers, self._user_events = breakers, user_events
        self._load, self._changed = load, changed
        self._state = changed()
        self._newest = load()  # what the artefacts hold; the snapshot follows once the stores hold it, too
        self._snapshot = Snapshot.without_items(self._newest)
        self._closed = threading.Event()
        self.refresh()

    @property
    def snapshot(self) -> Snapshot:
        """The present one."""
        return self._snapshot

    def refresh(self) -> None:
        """Reads artefacts that changed and the items' features; what cannot be read stays as it was."""
        data, item_features = self._snapshot.data, self._snapshot.item_features
        try:
            data = self._served_data()
            if data.load_digest != self._snapshot.data.load_digest:
                item_features = ItemFeatures.none(data.features)
            pace = LATER_READING if item_features.are_known else FIRST_READING
            with self._breakers.use(FEAST):
                item_features = ItemFeatures.read(self._feature_store, data.features, data.items, *pace)
        except (ArtefactError, ServiceUnavailable) as error:
            logger.warning("not refreshed: %s", error)
        self._snapshot = Snapshot(data, item_features)
        self._user_events.push_pending(data)

    def _served_data(self) -> ServingData:
        """The data of the newest artefacts, if the stores hold them; the present data until then."""
        state = self._changed()
        if state != self._state:
            self._newest, self._state = self._load(), state
        present = self._snapshot.data
        return self._newest if self._newest.load_digest == present.load_digest or self._is_loaded() else present

    def _is_loaded(self) -> bool:
        """Whether the stores hold the newest artefacts."""
        with self._breakers.use(REDIS):
            return self._recall_store.loaded() == self._newest.load_digest

    def _has_moved(self) -> bool:
        """Whether the stores hold newer artefacts than the snapshot."""
        try:
            return self._served_data() is not self._snapshot.data
        except (ArtefactError, ServiceUnavailable):
            return False  # the next refresh says why

    def start(self, seconds: float) -> None:
        """Begins to refresh every so many seconds, and each second what a service was missing for."""
        threading.Thread(target=self._keep, args=(seconds,), name="refresh", daemon=True).start()

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _keep(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        while not self._closed.wait(min(RETRY_SECONDS, seconds)):
            try:
                if time.monotonic() >= due or not self._snapshot.has_item_features or self._has_moved():
                    self.refresh()
                    due = time.monotonic() + seconds
                elif self._user_events.is_behind:
                    self._user_events.push_pending(self._snapshot.data)
            except Exception:  # a thread that ends silently would leave the snapshot as it is for ever
                logger.exception("refresh failed")
