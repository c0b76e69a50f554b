"""People without an account: their state is made of what the request brings, as of events, and is not kept."""

from collections.abc import Sequence

from data_exchange_center.arrays import Int64Array
from data_exchange_center.assembler import unknown_user
from online.callers.types import Impression, LiveUser
from online.serving_data import ServingData
from online.user_events import add_events, window_after

NOBODY = LiveUser((), (), (), ())


def after_session(session: Sequence[Impression], data: ServingData) -> LiveUser:
    """Someone of whom these impressions are known and nothing else: the same as a new user after these events."""
    return add_events(NOBODY, session, data)


def features_after(user: LiveUser, data: ServingData) -> Int64Array:
    """[40] the features of an unknown user with the history window after these impressions."""
    features = unknown_user(data.features)
    features[data.features.history_places] = window_after(user.recent, data)[0]
    return features
