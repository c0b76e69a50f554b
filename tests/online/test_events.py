"""Establishes that moving the window event by event equals counting all rows anew, ties and delays included."""

from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center.genre_history import LIKED_MINIMUM, WINDOW
from data_exchange_center.vocabularies import GENRES
from online.callers.types import Impression, LiveUser
from online.events import add_events, history_features
from online.serving_data import Title

TITLES = {item: Title("", tuple(GENRES[item % 7 : item % 7 + 1 + item % 3])) for item in range(1, 40)}
impressions = st.builds(
    Impression,
    st.integers(1, 39),
    st.sampled_from([0.5, 3.0, 3.5, 5.0]),
    st.integers(0, 12),  # few seconds, so that many tie
)


def slow_window(rows: list[Impression]) -> list[Impression]:
    """The last WINDOW by (second, order of arrival); Python's sort is stable."""
    return sorted(rows, key=lambda row: row.timestamp)[-WINDOW:]


@given(st.lists(impressions, max_size=15), st.lists(st.lists(impressions, max_size=6), max_size=5))
def test_the_window_moves_as_if_counted_anew(offline: list[Impression], arriving: list[list[Impression]]) -> None:
    offline = sorted(offline, key=lambda row: row.timestamp)
    user = LiveUser((), tuple(sorted({row.itemid for row in offline})), tuple(offline[-WINDOW:]), ())
    everything = list(offline)
    for events in arriving:
        known = {(i.itemid, i.timestamp) for i in (*slow_window(everything), *everything[len(offline) :])}
        user = add_events(user, events, TITLES)
        for event in events:
            if (event.itemid, event.timestamp) not in known:
                known.add((event.itemid, event.timestamp))
                everything.append(event)
    assert list(user.recent) == slow_window(everything)
    assert set(user.seen) == {row.itemid for row in everything}
    if not user.events:
        return
    features = history_features(user.recent, TITLES)
    liked = []
    for genre in GENRES:
        shown = [row for row in user.recent if genre in TITLES[row.itemid].genres]
        positive = [row for row in shown if row.rating > 3]
        slug = genre.lower().replace("'", "").replace("-", "_")
        assert (features[f"imp_{slug}"], features[f"clk_{slug}"]) == (len(shown), len(positive))
        liked += [genre] if len(positive) >= LIKED_MINIMUM else []
    assert list(user.terms) == liked


@given(st.lists(impressions, min_size=1, max_size=6))
def test_an_event_counts_once(events: list[Impression]) -> None:
    once = add_events(LiveUser((), (), (), ()), events, TITLES)
    assert add_events(once, events, TITLES) is once
