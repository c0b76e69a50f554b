"""Establishes that raw data go on with the events, in the data set's own ids, and that those of another are refused."""

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.external_ids import internal_id
from data_exchange_center.log_entries import LoggedEvent
from offline.preprocess.readers.text import DataError
from offline.preprocess.readers.with_events import EVENTS_FILE, WithEvents, with_events
from online.callers.redis_streams import EntryId
from online_to_offline.log_rows import event_rows
from online_to_offline.s2_training_rows import event_ratings

RATINGS = pa.table(
    {
        Column.USERID: pa.array([internal_id("ann")]),
        Column.EXTERNAL_USERID: ["ann"],
        Column.ITEMID: pa.array([3]),
        Column.RATING: pa.array([2.5], pa.float32()),
        Column.TIMESTAMP: pa.array([1]),
    }
)


def with_these(folder: Path, *events: LoggedEvent) -> WithEvents:
    """Raw data whose users' ids are text and whose items' are numbers, with these events."""
    (folder / EVENTS_FILE).parent.mkdir(parents=True, exist_ok=True)
    rows = event_rows([(EntryId(place, 0), event) for place, event in enumerate(events)])
    pq.write_table(event_ratings(rows), folder / EVENTS_FILE)
    data = with_events(SimpleNamespace(ratings=lambda: RATINGS, files=[]), folder)  # type: ignore[arg-type]
    assert isinstance(data, WithEvents)
    return data


def test_events_of_text_ids_follow_once_each(tmp_path: Path) -> None:
    assert catalogue.EVENT_RATINGS.present_schema.names
    event = LoggedEvent(userid="somebody new", itemid=7, rating=4.5, ts=9)
    data = with_these(tmp_path, event, LoggedEvent(userid="ann", itemid=3, rating=1, ts=10), event)
    ratings = data.ratings()
    assert ratings.schema == RATINGS.schema
    assert ratings[Column.EXTERNAL_USERID].to_pylist() == ["ann", "somebody new", "ann"]
    assert ratings[Column.USERID].to_pylist() == [internal_id(user) for user in ("ann", "somebody new", "ann")]
    assert ratings[Column.ITEMID].to_pylist() == [3, 7, 3] and ratings[Column.RATING].to_pylist() == [2.5, 4.5, 1.0]


def test_events_of_another_kind_of_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ids that are no text"):
        with_these(tmp_path, LoggedEvent(userid=7, itemid=7, rating=4, ts=9)).ratings()


def test_without_events_the_data_are_as_they_were(tmp_path: Path) -> None:
    original = SimpleNamespace()
    assert with_events(original, tmp_path) is original  # type: ignore[arg-type]
