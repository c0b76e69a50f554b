"""Establishes that raw data go on with the events, in the data set's own ids, and that those of another are refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.external_ids import internal_id
from data_exchange_center.log_entries import LoggedEvent
from offline.preprocess.readers.text import DataError
from offline.preprocess.readers.with_events import EVENTS_FILE, EXPOSURES_FILE, SEEN_COLUMNS, WithEvents, with_events
from offline.preprocess.s1_data_split import acted_lists
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


def test_what_was_seen_of_lists_stands_in_the_vocabularies_indices(tmp_path: Path) -> None:
    data = with_these(tmp_path, LoggedEvent(userid="ann", itemid=3, rating=1, ts=10))
    ratings = SimpleNamespace(user_ids=np.array([5, internal_id("ann")]), item_ids=np.array([3, 8]))
    assert not len(acted_lists(data, ratings))  # type: ignore[arg-type]
    ann, schema = internal_id("ann"), catalogue.EXPOSURES.present_schema
    # Two lists of one millisecond, one of another, and one that no event names; an item and a user that are among no
    # offline rows.
    rows = [(7, 0, ann, 3, 1, 1), (7, 0, ann, 9, 1, 0), (7, 1, 5, 8, 1, 0), (8, 0, ann, 3, 0, 1), (9, 0, 6, 3, 1, 1)]
    rows.append((9, 0, ann, 8, 1, 1))
    columns = dict(zip(SEEN_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    table = pa.table([columns.get(field.name, [None] * len(rows)) for field in schema], schema=schema)
    pq.write_table(table, tmp_path / EXPOSURES_FILE)
    data = with_events(data.original, tmp_path)
    assert data.files == [tmp_path / EVENTS_FILE, tmp_path / EXPOSURES_FILE]
    found = acted_lists(data, ratings)  # type: ignore[arg-type]
    assert [tuple(row.values()) for row in found.to_pylist()] == [(0, 2, 1, 1), (1, 1, 2, 0), (3, 2, 2, 1)]
    assert not len(acted_lists(data.original, ratings))  # type: ignore[arg-type]


def test_without_events_the_data_are_as_they_were(tmp_path: Path) -> None:
    original = SimpleNamespace()
    assert with_events(original, tmp_path) is original  # type: ignore[arg-type]
