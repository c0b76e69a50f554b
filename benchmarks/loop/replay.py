"""Gives users who acted their latest rows back after a load.

    python -m benchmarks.loop.replay

A load makes the stores say what the artefacts say, and these keep each user's last rows out for the evaluation: whoever
has just rated an item would be recommended it again. So the rows that were kept out count again as the events that
most of them were, and so do events that came in since the log was drained; they are not logged a second time. Only of
users with events: all others are as `make load` has it.
"""

from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.external_ids import internal_id
from data_exchange_center.log_entries import LoggedEvent
from data_exchange_center.serving_names import REDIS_EVENT_LOG
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.preprocess import movielens
from offline.preprocess.readers.with_events import WithEvents
from online.breakers import Breakers
from online.callers.redis_stores import redis_client
from online.callers.redis_streams import EntryId, blocks_after
from online.callers.types import Impression, ServiceUnavailable
from online.main.backends import connect
from online.serving_data import ServingData
from online.user_events import UserEvents
from online_to_offline.s1_log_to_tables import positions

USERS_AT_A_TIME = 50
EVENTS_AT_A_TIME = 1_000
TIMEOUT = 30.0  # seconds


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


def not_drained(data: ServingData) -> dict[int, list[Impression]]:
    """The events that the log holds and the tables do not: such as came in while models were fitted.

    Raises:
        ServiceUnavailable: Redis does not respond.
    """
    drained, rows = positions().events, defaultdict[int, list[Impression]](list)
    last = EntryId(drained.milliseconds, drained.number)
    with redis_client(Settings(), TIMEOUT) as client:
        for block in blocks_after(client, REDIS_EVENT_LOG, last, EVENTS_AT_A_TIME):
            for entry in block:
                event = LoggedEvent.model_validate_json(entry.content)
                itemid = internal_id(event.itemid)
                if itemid in data.items:
                    rows[internal_id(event.userid)].append(Impression(itemid, event.rating, event.ts))
    return rows


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
    """Gives the rows back to the users who acted, and counts what came in since the drain."""
    rows = of_users_who_acted(kept_out())
    for user, events in not_drained(ServingData.load()).items():
        rows.setdefault(user, []).extend(events)
    print(f"{count_again(rows):,} latest rows of {len(rows):,} users counted again")


if __name__ == "__main__":
    run_stage(main)
