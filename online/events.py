"""What an event does to a user: the item joins their filter and their history window moves.

The window is counted by the function that counted the training rows' (data_exchange_center/genre_history.py).
"""

import bisect
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from data_exchange_center.columns import POSITIVE_ABOVE
from data_exchange_center.features import HISTORY_COUNTS
from data_exchange_center.genre_history import WINDOW, liked_genres, window_counts
from data_exchange_center.vocabularies import GENRE_INDEX, GENRES
from online.callers.types import Impression, LiveUser
from online.serving_data import Title


def newest_counts(recent: Sequence[Impression], titles: Mapping[int, Title]) -> npt.NDArray[np.uint8]:
    """[1, 36] the history window after `recent`, which is in the split's order, oldest first."""
    flags = np.zeros((len(recent), len(GENRES)), np.uint8)
    for row, impression in enumerate(recent):
        for genre in titles[impression.itemid].genres:
            flags[row, GENRE_INDEX[genre] - 1] = 1
    labels = np.array([impression.rating > POSITIVE_ABOVE for impression in recent], np.uint8)
    return window_counts(flags, labels, np.array([0]), np.array([len(recent)]))


def history_features(recent: Sequence[Impression], titles: Mapping[int, Title]) -> dict[str, int]:
    """The user's dense features after `recent`."""
    return dict(zip(HISTORY_COUNTS, newest_counts(recent, titles)[0].tolist(), strict=True))


def add_events(user: LiveUser, events: Sequence[Impression], titles: Mapping[int, Title]) -> LiveUser:
    """The user after some events; the very same object when all of them had been counted before.

    An event is known by item and time. One that is older than others takes its place by time, after those of the same
    second, as rows of a file would.

    Args:
        user: before them.
        events: in order of arrival.
        titles: of all items; every event's item is among them.
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
    liked = liked_genres(newest_counts(recent, titles))[0]
    terms = tuple(genre for genre, likes in zip(GENRES, liked, strict=True) if likes)
    return LiveUser(terms, tuple(sorted(seen)), tuple(recent), tuple(log))
