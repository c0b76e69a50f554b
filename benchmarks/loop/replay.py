"""Gives users who acted their latest rows back after a load.

    python -m benchmarks.loop.replay

A load makes the stores say what the artefacts say, and these keep each user's last rows out for the evaluation: whoever
has just rated an item would be recommended it again. So the rows that were kept out count again as the events that
most of them were; they are not logged a second time. Only of users with events: all others are as `make load` has it.
"""

from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa

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
    """The rows that the artefacts keep out, by user, oldest first."""
    table = catalogue.ONLINE_IMPRESSIONS.load([Column.USERID, Column.ITEMID, Column.RATING, Column.TIMESTAMP])
    # As people wrote it, as in offline_to_online/recall/user_recall.py.
    ratings = table[Column.RATING].cast(pa.string()).cast(pa.float64())
    columns = (table[Column.USERID], table[Column.ITEMID], ratings, table[Column.TIMESTAMP])
    rows: dict[int, list[Impression]] = defaultdict(list)
    for user, *values in zip(*(column.to_pylist() for column in columns), strict=True):
        rows[user].append(Impression(*values))
    return rows


def of_users_who_acted(rows: Mapping[int, list[Impression]]) -> dict[int, list[Impression]]:
    """Those of users with an event among the data that the artefacts were made of."""
    data = movielens.raw_data(Settings())
    acted = data.events_table()[Column.USERID].to_pylist() if isinstance(data, WithEvents) else ()
    return {user: rows[user] for user in sorted(set(acted) & set(rows))}


def count_again(rows: Mapping[int, list[Impression]]) -> int:
    """Records rows as events, some users at a time; returns how many counted.

    Raises:
        ServiceUnavailable: a service does not respond; what was recorded counts.
    """
    data, events = ServingData.load(), UserEvents(connect(Settings()), Breakers())
    users, accepted = list(rows), 0
    for start in range(0, len(users), USERS_AT_A_TIME):
        recorded = events.record({user: rows[user] for user in users[start : start + USERS_AT_A_TIME]}, data)
        if recorded.behind:
            raise ServiceUnavailable(recorded.behind[0], "some users' vectors or features do not follow yet")
        accepted += recorded.accepted
    return accepted


def main() -> None:
    """Gives the rows back to the users who acted."""
    rows = of_users_who_acted(kept_out())
    print(f"{count_again(rows):,} latest rows of {len(rows):,} users counted again")


if __name__ == "__main__":
    run_stage(main)
