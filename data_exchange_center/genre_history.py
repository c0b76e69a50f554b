"""The history window: how often a user's latest impressions showed each genre, and how often they were liked.

Training rows, serving rows and live events all call the two functions below. That is the point of this file: the
original counts 10 impressions in training and 11 in serving, and nothing in its metrics shows it.
"""

import numpy as np
import numpy.typing as npt

WINDOW = 10  # impressions; below 256, see window_counts
LIKED_MINIMUM = 3  # positives in the window from which a genre counts as liked


def user_starts(users: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
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


def window_counts(
    genre_flags: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint8]:
    """Counts over the last WINDOW impressions of [start, end), the impression at `end` itself never included.

    For the state before row i ask with end = i; for a user's newest state ask with end = the row after the last.

    Args:
        genre_flags: [n, genres] 1 where the impression's item has the genre; rows in the split's order.
        labels: [n] 1 where the impression was positive.
        starts: [m] first row of the user asked for.
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


def liked_genres(counts: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """[m, genres] bool: the genres with LIKED_MINIMUM or more positives, from `window_counts`' result."""
    genres = counts.shape[1] // 2
    return counts[:, genres:] >= LIKED_MINIMUM
