"""Establishes that a rating is a positive for live events where it is one for training rows."""

from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center.dataset import RatingScale
from offline.preprocess.splitting import split_users
from testkit.dataset import a_ratings_table

tenths = st.integers(-50, 50).map(lambda value: value / 10)


@given(tenths, tenths)
def test_positives_are_the_same_in_single_precision_and_as_people_write_them(rating: float, above: float) -> None:
    scale = RatingScale(lowest=-5, highest=5, positive_above=above)
    table = split_users(a_ratings_table([rating]), 10, scale)
    stored = table["rating"].to_pylist()[0]
    as_written, as_stored = scale.are_positive([rating, stored]).tolist()
    assert as_written == as_stored == bool(table["label"].to_pylist()[0]) == (rating > above)
