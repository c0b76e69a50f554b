"""Establishes that the history window equals a slow, obvious count, in training and serving, ties in time included."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center.user_state import (
    LIKED_MINIMUM,
    WINDOW,
    genre_flags,
    liked_genres,
    newest_rows,
    newest_windows,
    user_starts,
    window_counts,
)
from data_exchange_center.vocabularies import GENRES as VOCABULARY
from offline.preprocess.splitting import time_order

GENRES = 3
rows = st.lists(
    st.tuples(
        st.integers(1, 4),  # user
        st.integers(0, 3),  # second: few, so that they tie
        st.booleans(),
        st.lists(st.booleans(), min_size=GENRES, max_size=GENRES),
    ),
    max_size=120,
)


def slow_window(history: list[tuple[bool, list[bool]]]) -> list[int]:
    """Counts the last WINDOW impressions one by one."""
    last = history[-WINDOW:]
    seen = [sum(genres[g] for _, genres in last) for g in range(GENRES)]
    liked = [sum(genres[g] for positive, genres in last if positive) for g in range(GENRES)]
    return seen + liked


@given(rows)
def test_windows_equal_a_slow_count(table: list[tuple[int, int, bool, list[bool]]]) -> None:
    users, seconds = (np.array([row[k] for row in table], np.int64) for k in (0, 1))
    order = time_order(users, seconds)
    ordered = [table[at] for at in sorted(range(len(table)), key=lambda at: (table[at][0], table[at][1], at))]
    assert [table[at] for at in order] == ordered

    flags = np.array([row[3] for row in ordered], np.uint8).reshape(-1, GENRES)
    labels = np.array([row[2] for row in ordered], np.uint8)
    starts = user_starts(users[order])
    before = window_counts(flags, labels, starts, np.arange(len(ordered)))
    histories: dict[int, list[tuple[bool, list[bool]]]] = {}
    for at, (user, _, positive, genres) in enumerate(ordered):
        history = histories.setdefault(user, [])
        assert before[at].tolist() == slow_window(history)
        history.append((positive, genres))

    asked = np.array([1, 2, 3, 4, 9])  # user 9 has no rows
    newest = newest_windows(users[order], flags, labels, asked)
    for user, counts in zip(asked.tolist(), newest.tolist(), strict=True):
        assert counts == slow_window(histories.get(user, []))
    assert (liked_genres(newest) == (newest[:, GENRES:] >= LIKED_MINIMUM)).all()

    present, firsts, ends = newest_rows(users[order], WINDOW)
    assert present.tolist() == sorted(histories)
    for user, first, end in zip(present.tolist(), firsts.tolist(), ends.tolist(), strict=True):
        rows_of_user = [at for at, row in enumerate(ordered) if row[0] == user]
        assert list(range(first, end)) == rows_of_user[-WINDOW:]


def test_sums_wrap_around_without_harm() -> None:
    """The running sum has 8 bits: more than 256 impressions of one genre must not show."""
    n = 1000
    flags, labels = np.ones((n, 1), np.uint8), np.ones(n, np.uint8)
    counts = window_counts(flags, labels, np.zeros(n, np.int64), np.arange(n))
    assert counts[:, 0].tolist() == [min(at, WINDOW) for at in range(n)]


@given(st.lists(st.lists(st.sampled_from([*VOCABULARY, "Telenovela"]), max_size=5), max_size=20))
def test_genre_flags_equal_slow_ones(genres: list[list[str]]) -> None:
    """A genre outside the vocabulary counts as none, one that is named twice as one."""
    flags = genre_flags(genres, VOCABULARY)
    assert flags.shape == (len(genres), len(VOCABULARY)) and flags.dtype == np.uint8
    assert flags.tolist() == [[int(name in names) for name in VOCABULARY] for names in genres]
