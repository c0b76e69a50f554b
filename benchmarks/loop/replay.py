"""Gives users who acted their latest rows back after a load.

    python -m benchmarks.loop.replay

A load makes the stores say what the artefacts say, and these keep each user's last rows out for the evaluation: whoever
has just rated an item would be recommended it again. So the rows that were kept out count again as the events that
most of them were; they are not logged a second time. Only of users with events: all others are as `make load` has it.
"""

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.preprocess import movielens
from offline.preprocess.readers.with_events import WithEvents
from online.breakers import Breakers
from online.callers.types import Impression, ServiceUnavailable
from online.main.backends import connect
from online.serving_data import ServingData
from online.user_events import UserEvents

USERS_AT_A_TIME = 50


def kept_out() -> dict[int, list[Impression]]:
    """The rows that the artefacts keep out, of each user with an event, oldest first."""
    data = movielens.raw_data(Settings())
    if not isinstance(data, WithEvents):
        return {}
    acted = set(data.events_table()[Column.USERID].to_pylist())
    names = [Column.USERID, Column.ITEMID, Column.RATING, Column.TIMESTAMP]
    rows: dict[int, list[Impression]] = {}
    for user, *values in zip(
        *(catalogue.ONLINE_IMPRESSIONS.load(names)[name].to_pylist() for name in names), strict=True
    ):
        if user in acted:
            rows.setdefault(user, []).append(Impression(*values))
    return rows


def main() -> None:
    """Records the rows, some users at a time.

    Raises:
        ServiceUnavailable: a service does not respond; what was recorded counts.
    """
    rows, data = kept_out(), ServingData.load()
    events = UserEvents(connect(Settings()), Breakers())
    users, accepted = list(rows), 0
    for start in range(0, len(users), USERS_AT_A_TIME):
        recorded = events.record({user: rows[user] for user in users[start : start + USERS_AT_A_TIME]}, data)
        if recorded.behind:
            raise ServiceUnavailable(recorded.behind[0], "some users' vectors or features do not follow yet")
        accepted += recorded.accepted
    print(f"{accepted:,} latest rows of {len(users):,} users counted again")


if __name__ == "__main__":
    run_stage(main)
