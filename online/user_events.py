"""An event's way into the stores: it changes the user in the recall store, and the feature store follows.

The recall store decides: once it has taken an event, the event counts. The feature store gets the counts of the user's
history window, at once where it responds, else in the background.

The window is counted by the function that counted the training rows' (data_exchange_center/user_state.py).
"""

import bisect
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from data_exchange_center.arrays import UInt8Array
from data_exchange_center.columns import POSITIVE_ABOVE
from data_exchange_center.features import HISTORY_COUNTS
from data_exchange_center.user_state import WINDOW, genre_flags, liked_genres, newest_windows
from data_exchange_center.vocabularies import GENRES
from online.breakers import Breakers
from online.callers.types import Impression, LiveUser, ServiceUnavailable
from online.roles import FEAST, REDIS, ServingBackends
from online.serving_data import UNKNOWN_ITEM_METADATA, ItemMetadata

logger = logging.getLogger(__name__)

Items = Mapping[int, ItemMetadata]


# --- what an event does to a user ------------------------------------------------------------------------------------


def window_after(recent: Sequence[Impression], items: Items) -> UInt8Array:
    """[1, 36] the history window after a user's impressions.

    Args:
        recent: in the split's order, oldest first. An item that is not among `items` counts as one without genres: the
            recall store may still hold it from before a load.
        items: the metadata of the present items.
    """
    flags = genre_flags([items.get(impression.itemid, UNKNOWN_ITEM_METADATA).genres for impression in recent])
    labels = np.array([impression.rating > POSITIVE_ABOVE for impression in recent], np.uint8)
    return newest_windows(np.zeros(len(recent), np.int64), flags, labels, np.zeros(1, np.int64))


def history_features(recent: Sequence[Impression], items: Items) -> dict[str, int]:
    """The user's dense features after these impressions, by name."""
    return dict(zip(HISTORY_COUNTS, window_after(recent, items)[0].tolist(), strict=True))


def add_events(user: LiveUser, events: Sequence[Impression], items: Items) -> LiveUser:
    """The user after some events; the very same object when all of them had been counted before.

    An event is known by item and time. One that is older than others takes its place by time, after those of the same
    second, as rows of a file would.

    Args:
        user: before the events.
        events: in order of arrival.
        items: the metadata of the present items.
    """
    known = {(i.itemid, i.timestamp) for i in (*user.recent, *user.events)}
    recent, log, seen = list(user.recent), list(user.events), set(user.seen)
    for event in events:
        if (event.itemid, event.timestamp) in known:
            continue
        known.add((event.itemid, event.timestamp))
        bisect.insort_right(recent, event, key=lambda impression: impression.timestamp)
        log.append(event)
        seen.add(event.itemid)
    if len(log) == len(user.events):
        return user
    recent = recent[-WINDOW:]
    liked = liked_genres(window_after(recent, items))[0]
    terms = tuple(genre for genre, likes in zip(GENRES, liked, strict=True) if likes)
    return LiveUser(terms, tuple(sorted(seen)), tuple(recent), tuple(log))


# --- where the users are ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """What became of some events: how many were new, and whether the feature store has them, too."""

    accepted: int
    is_complete: bool


class UserEvents:
    """Records events and brings the feature store up to date; one object, used by many threads."""

    def __init__(self, backends: ServingBackends, breakers: Breakers) -> None:
        """Keeps the two stores, which are called only where their breaker allows it."""
        self._recall_store, self._feature_store = backends.recall_store, backends.feature_store
        self._breakers = breakers
        self._is_behind = False

    @property
    def is_behind(self) -> bool:
        """Whether an event of this process is not in the feature store yet."""
        return self._is_behind

    def record(self, events: Mapping[int, Sequence[Impression]], items: Items) -> Recorded:
        """Takes events into their users' filter, liked genres and history window: all of them, or none.

        Args:
            events: each user's, in order of arrival; known users or not.
            items: the metadata of the present items.

        Raises:
            ServiceUnavailable: the recall store does not respond. It has taken all of the events or none. They may be
                sent again: an event counts once.
        """
        changes = {user: partial(add_events, events=some, items=items) for user, some in events.items()}
        with self._breakers.use(REDIS):
            accepted = self._recall_store.update(changes)
        try:
            self._push_all((userid for userid, count in accepted.items() if count), items)
        except ServiceUnavailable:
            self._is_behind = True
            return Recorded(sum(accepted.values()), is_complete=False)
        return Recorded(sum(accepted.values()), is_complete=True)

    def push_pending(self, items: Items) -> None:
        """Brings the feature store up to date with all events that it missed, as far as the services respond."""
        was_behind, self._is_behind = (
            self._is_behind,
            False,
        )  # now and not at the end: an event may fall behind meanwhile
        try:
            with self._breakers.use(REDIS):
                pending = self._recall_store.unpushed()
            self._push_all(pending, items)
        except ServiceUnavailable as error:
            self._is_behind |= was_behind
            logger.warning("events wait for the feature store: %s", error)

    def _push_all(self, userids: Iterable[int], items: Items) -> None:
        """Brings the feature store up to date with the windows of these users in the recall store.

        Raises:
            ServiceUnavailable: one of the stores does not respond. The users that remain are still among `unpushed`.
        """
        for userid in userids:
            moment = time.time_ns()  # taken before the reading: of two pushes at once, the one that read later wins
            with self._breakers.use(REDIS):
                (recent,) = self._recall_store.recent([userid])
            counts = history_features(recent, items)
            with self._breakers.use(FEAST):
                self._feature_store.push_history(userid, counts, moment)
            with self._breakers.use(REDIS):
                self._recall_store.pushed(userid)

    def history(self, userid: int) -> tuple[Impression, ...]:
        """The user's latest impressions, the newest first.

        Raises:
            ServiceUnavailable: the recall store does not respond.
        """
        with self._breakers.use(REDIS):
            return self._recall_store.recent([userid])[0][::-1]
