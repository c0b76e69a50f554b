"""The user's state after some impressions: the history window by genre, the genres that follow, the last items.

Training rows, serving rows and live events all call the functions below. That is the point of this file: the original
counts 10 impressions in training and 11 in serving, and nothing in its metrics shows it.
"""

from collections.abc import Sequence

import numpy as np

from data_exchange_center.arrays import BoolArray, Int64Array, IntArray, UInt8Array
from data_exchange_center.vocabularies import indices

WINDOW = 10  # impressions; below 256, see window_counts
LIKED_MINIMUM = 3  # positives in the window from which a genre counts as liked


def genre_flags(genres: Sequence[Sequence[str]], vocabulary: tuple[str, ...]) -> UInt8Array:
    """[items, genres] 1 where the item has the genre; a name outside the vocabulary counts as none.

    Args:
        genres: the names of each item's genres.
        vocabulary: the genres of the data set.
    """
    flags = np.zeros((len(genres), len(vocabulary)), np.uint8)
    index = indices(vocabulary)
    pairs = [(row, index[name] - 1) for row, names in enumerate(genres) for name in names if name in index]
    if pairs:
        rows, places = zip(*pairs, strict=True)
        flags[rows, places] = 1
    return flags


def user_starts(users: IntArray) -> Int64Array:
    """First row of the user of each row.

    Args:
        users: [n] user of each row, rows of one user adjacent.

    Returns:
        [n] int64: for row i, the first row that holds the same user.
    """
    if len(users) == 0:
        return np.empty(0, np.int64)
    first = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
    return np.repeat(first, np.diff(np.r_[first, len(users)]))


def rows_between(starts: Int64Array, ends: Int64Array) -> tuple[Int64Array, Int64Array]:
    """All rows of [start, end), one range after the other.

    Args:
        starts, ends: [m] bounds; an end is at least its start.

    Returns:
        [rows] which of the ranges a row is of; [rows] the row.
    """
    sizes = ends - starts
    which = np.repeat(np.arange(len(starts)), sizes)
    return which, np.arange(len(which)) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)


def window_counts(
    genre_flags: UInt8Array,
    labels: IntArray,
    starts: Int64Array,
    ends: Int64Array,
) -> UInt8Array:
    """Counts over the last WINDOW impressions of [start, end), the impression at `end` itself never included.

    The state before row i has the end i; a user's newest state has the row after their last as its end.

    Args:
        genre_flags: [n, genres] 1 where the impression's item has the genre; rows in the split's order.
        labels: [n] 1 where the impression was positive.
        starts: [m] first row of the user.
        ends: [m] row before which the window ends, at least starts.

    Returns:
        [m, 2 * genres] uint8: impressions by genre, then positives by genre.
    """
    from_rows = np.maximum(starts, ends - WINDOW)
    counts = []
    for flags in (genre_flags, genre_flags * labels.astype(np.uint8)[:, None]):
        # A running sum in 8 bits wraps around at 256, and its differences are still right, because no window
        # holds more than WINDOW: an eighth of the memory of a sum in 64 bits, at 100 million rows too.
        running = np.zeros((len(flags) + 1, flags.shape[1]), np.uint8)
        np.cumsum(flags, axis=0, dtype=np.uint8, out=running[1:])
        counts.append(running[ends] - running[from_rows])
    return np.concatenate(counts, axis=1)


def newest_windows(userid: Int64Array, flags: UInt8Array, labels: IntArray, users: Int64Array) -> UInt8Array:
    """[users, 2 * genres] the window after each user's last impression; zeros for a user without impressions.

    Args:
        userid: [n] of the impressions, in the split's order.
        flags, labels: [n, genres] and [n] of the impressions.
        users: [users] the users asked for.
    """
    starts, ends = (np.searchsorted(userid, users, side=side) for side in ("left", "right"))
    return window_counts(flags, labels, starts, ends)


def newest_rows(userid: Int64Array, length: int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Where the last impressions of each user stand.

    Args:
        userid: [n] of the impressions, in the split's order.
        length: how many of each user at most.

    Returns:
        [users] userids, ascending; [users] first row and [users] row after the last of those impressions.
    """
    users, first = np.unique(userid, return_index=True)
    ends = np.r_[first, len(userid)][1:]
    return users, np.maximum(first, ends - length), ends


def liked_genres(counts: UInt8Array) -> BoolArray:
    """[m, genres] bool: the genres with LIKED_MINIMUM or more positives, from `window_counts`' result."""
    genres = counts.shape[1] // 2
    return counts[:, genres:] >= LIKED_MINIMUM


def sequences(
    items: IntArray, labels: IntArray, starts: Int64Array, ends: Int64Array, length: int
) -> tuple[Int64Array, Int64Array]:
    """The last impressions of [start, end) in order, the impression at `end` itself never included.

    Args:
        items: [n] item_index of the impressions, in the split's order.
        labels: [n] 1 where the impression was positive.
        starts: [m] first row of the user.
        ends: [m] row before which the sequence ends, at least starts.
        length: impressions of a sequence at most.

    Returns:
        [m, length] item indices and [m, length] labels, the newest in the last column; 0 where there is no impression,
        or one of an unknown item.
    """
    if not len(items):
        empty = np.zeros((len(ends), length), np.int64)
        return empty, empty
    rows = ends[:, None] + np.arange(-length, 0)
    present = rows >= starts[:, None]
    rows = np.maximum(rows, 0)
    last = np.where(present, items[rows], 0).astype(np.int64)
    return last, np.where(last > 0, labels[rows], 0).astype(np.int64)
