"""An event's way into the stores: it changes the user in the recall store; vector and feature store follow.

The recall store decides: once it has taken an event, the event counts. The user tower then makes the user's new vector,
and the feature store gets the counts of the history window, at once where they respond, else in the background.

Window and sequences are made by the functions that made the training rows' (data_exchange_center/user_state.py).
"""

import bisect
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from data_exchange_center.arrays import Int64Array, UInt8Array
from data_exchange_center.limits import TOWER_IMPRESSIONS
from data_exchange_center.user_state import WINDOW, genre_flags, liked_genres, newest_windows, sequences
from online.breakers import Breakers
from online.callers.types import Impression, LiveUser, ServiceUnavailable
from online.roles import FEAST, REDIS, TRITON, ServingBackends
from online.serving_data import UNKNOWN_ITEM_METADATA, ServingData

logger = logging.getLogger(__name__)


# --- what an event does to a user ------------------------------------------------------------------------------------


def window_after(recent: Sequence[Impression], data: ServingData) -> UInt8Array:
    """[1, 36] the history window after a user's impressions.

    Args:
        recent: in the split's order, oldest first. An item that is not among the present ones counts as one without
            genres: the recall store may still hold it from before a load.
        data: the present items, the genres, and which ratings are positives.
    """
    genres = [data.items.get(impression.itemid, UNKNOWN_ITEM_METADATA).genres for impression in recent]
    flags = genre_flags(genres, data.features.categories.genres)
    labels = data.scale.are_positive([impression.rating for impression in recent]).astype(np.uint8)
    return newest_windows(np.zeros(len(recent), np.int64), flags, labels, np.zeros(1, np.int64))


def sequence_after(recent: Sequence[Impression], data: ServingData, length: int) -> tuple[Int64Array, Int64Array]:
    """[1, length] item indices and labels of a user's last impressions, the newest in the last column.

    Args:
        recent, data: as for `window_after`; an item that is not among the present ones counts as no impression.
        length: of the sequence.
    """
    indices = np.array([data.items.get(i.itemid, UNKNOWN_ITEM_METADATA).index for i in recent], np.int64)
    labels = data.scale.are_positive([impression.rating for impression in recent]).astype(np.int64)
    return sequences(indices, labels, np.zeros(1, np.int64), np.array([len(recent)]), length)


def history_features(recent: Sequence[Impression], data: ServingData) -> dict[str, int]:
    """The user's dense features after these impressions, by name."""
    return dict(zip(data.features.history_counts, window_after(recent, data)[0].tolist(), strict=True))


def add_events(user: LiveUser, events: Sequence[Impression], data: ServingData) -> LiveUser:
    """The user after some events; the very same object when all of them had been counted before.

    An event is known by item and time. One that is older than others takes its place by time, after those of the same
    second, as rows of a file would.

    Args:
        user: before the events.
        events: in order of arrival.
        data: as for `window_after`.
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
    recent = recent[-TOWER_IMPRESSIONS:]
    liked = liked_genres(window_after(recent, data))[0]
    terms = tuple(genre for genre, likes in zip(data.features.categories.genres, liked, strict=True) if likes)
    return LiveUser(terms, tuple(sorted(seen)), tuple(recent), tuple(log))


def _after(user: LiveUser, userid: int, events: Sequence[Impression], data: ServingData) -> LiveUser:
    """`add_events`, unless the recall store has lost what the artefacts know: these events are not all of the user.

    Raises:
        StoreFault: it has.
    """
    data.check_user(REDIS, userid, bool(user.seen or user.recent))
    return add_events(user, events, data)


# --- where the users are ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """What became of some events: how many were new, and which services have not followed yet."""

    accepted: int
    behind: tuple[str, ...] = ()


class UserEvents:
    """Records events and lets vectors and feature store follow; one object, used by many threads."""

    def __init__(self, backends: ServingBackends, breakers: Breakers) -> None:
        """Keeps the backends, which are called only where their breaker allows it."""
        self._backends, self._breakers = backends, breakers
        self._is_behind = False

    @property
    def is_behind(self) -> bool:
        """Whether an event of this process has not reached everything that follows from it."""
        return self._is_behind

    def record(self, events: Mapping[int, Sequence[Impression]], data: ServingData) -> Recorded:
        """Takes events into their users' filter, liked genres and last impressions: all of them, or none.

        Args:
            events: each user's, in order of arrival; known users or not.
            data: the present items, and what a model must have been trained on.

        Raises:
            ServiceUnavailable: the recall store does not respond. It has taken all of the events or none. They may be
                sent again: an event counts once.
            StoreFault: it is of another load, or has lost one of the users. It has taken none.
        """
        changes = {user: partial(_after, userid=user, events=some, data=data) for user, some in events.items()}
        with self._breakers.use(REDIS):
            accepted = self._backends.recall_store.update(changes, data.load_digest)
        behind = self._follow_all((userid for userid, count in accepted.items() if count), data)
        self._is_behind |= bool(behind)
        return Recorded(sum(accepted.values()), tuple(sorted(behind)))

    def push_pending(self, data: ServingData) -> None:
        """Lets follow what missed some events, as far as the services respond."""
        was_behind = self._is_behind
        self._is_behind = False  # now and not at the end: an event may fall behind meanwhile
        try:
            with self._breakers.use(REDIS):
                pending = self._backends.recall_store.unpushed()
        except ServiceUnavailable as error:
            self._is_behind |= was_behind
            logger.warning("events wait: %s", error)
            return
        behind = self._follow_all(pending, data)
        if behind:
            self._is_behind |= was_behind
            logger.warning("events wait for %s", ", ".join(sorted(behind)))

    def _follow_all(self, userids: Iterable[int], data: ServingData) -> set[str]:
        """Brings vectors and feature store up to date with the last impressions of these users.

        Returns:
            The services that do not respond. The users whom they have missed are still among `unpushed`.
        """
        behind: set[str] = set()
        for userid in userids:
            if behind >= {TRITON, FEAST} or REDIS in behind:
                break
            try:
                self._follow(userid, data, behind)
            except ServiceUnavailable as error:
                behind.add(error.service)
        return behind

    def _follow(self, userid: int, data: ServingData, behind: set[str]) -> None:
        """The same for one user; a service that does not respond is added to `behind` and not asked again.

        Raises:
            ServiceUnavailable: the recall store does not respond.
        """
        moment = time.time_ns()  # taken before the reading: of two pushes at once, the one that read later wins
        with self._breakers.use(REDIS):
            (recent,) = self._backends.recall_store.recent([userid])
        is_newest = False
        if TRITON not in behind:
            try:
                is_newest = self._move_vector(userid, recent, data)
            except ServiceUnavailable as error:
                behind.add(error.service)
        if FEAST not in behind:
            try:
                with self._breakers.use(FEAST):
                    counts = history_features(recent, data)
                    self._backends.feature_store.push_history(data.features, userid, counts, moment)
            except ServiceUnavailable as error:
                behind.add(error.service)
        if is_newest and FEAST not in behind:  # else whoever recorded the later event does it, or the next refresh
            with self._breakers.use(REDIS):
                self._backends.recall_store.pushed(userid)

    def _move_vector(self, userid: int, recent: Sequence[Impression], data: ServingData) -> bool:
        """Gives the user the vector after these impressions; False where a later event has come in.

        Raises:
            ServiceUnavailable: a service does not respond, or the tower knows other items.
        """
        sequence = sequence_after(recent, data, TOWER_IMPRESSIONS)
        with self._breakers.use(TRITON):
            vectors, tower = self._backends.user_tower.user_vectors(*sequence)
            data.expected.check_model(tower)
        with self._breakers.use(REDIS):
            return self._backends.recall_store.set_vector(userid, recent, vectors[0])

    def history(self, userid: int) -> tuple[Impression, ...]:
        """The impressions in the user's history window, the newest first.

        Raises:
            ServiceUnavailable: the recall store does not respond.
        """
        with self._breakers.use(REDIS):
            return self._backends.recall_store.recent([userid])[0][: -WINDOW - 1 : -1]
