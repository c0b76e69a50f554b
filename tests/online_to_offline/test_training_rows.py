"""Establishes which list an event answers, and what of a list was seen and passed over."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_exchange_center import catalogue
from data_exchange_center.columns import Column, LogColumn
from online_to_offline.s1_log_to_tables import drained
from online_to_offline.s2_training_rows import (
    ACTED_BY,
    BY_NAME,
    BY_NONE,
    BY_TIME,
    LIST,
    WINDOW_SECONDS,
    answered,
    exposures,
)
from testkit.dataset import a_dataset

USER, ITEM, MS = Column.USERID, Column.ITEMID, LogColumn.MILLISECONDS
PLACE, REQUEST = LogColumn.POSITION, LogColumn.REQUEST_ID


def lists(*shown: tuple[int, str, int, list[int]]) -> pd.DataFrame:
    """Lists of the log: milliseconds, request id, user and items."""
    rows = [
        {MS: ms, LogColumn.NUMBER: 0, PLACE: place, REQUEST: request, USER: user, ITEM: item, LIST: n}
        for n, (ms, request, user, items) in enumerate(shown)
        for place, item in enumerate(items, start=1)
    ]
    return pd.DataFrame(rows).assign(**{LogColumn.ARM: "default", LogColumn.PROPENSITY: 1.0, LogColumn.TEAM: None})


def events(*sent: tuple[int, int, int, float, str | None]) -> pd.DataFrame:
    """Events of the log: milliseconds, user, item, rating and request id."""
    return pd.DataFrame(sent, columns=[MS, USER, ITEM, Column.RATING, LogColumn.REQUEST_ID])


def test_an_event_answers_the_list_that_it_names_or_the_last_that_showed_the_item() -> None:
    shown = lists(
        (1_000, "a", 1, [10, 11]), (2_000, "b", 1, [10, 12]), (3_000, "c", 2, [10]), (4_000, "d", 4, [13, 14])
    )
    late = 2_000 + WINDOW_SECONDS * 1000
    sent = events(
        (5_000, 1, 10, 5, "a"),  # named
        (5_001, 1, 10, 5, None),  # the last one that showed it to this user
        (5_002, 1, 12, 5, "a"),  # names a list that did not show it
        (5_003, 1, 10, 5, "c"),  # names another user's
        (5_004, 3, 10, 5, None),  # was shown nothing
        (1_500, 1, 12, 5, None),  # before it was shown
        (late, 1, 12, 5, None),
        (late + 1, 1, 12, 5, None),
        (5_005, 4, 13, 5, "d"),
        (5_006, 4, 14, 5, None),  # the client names the list where the user acts on it
    )
    found = answered(sent, shown)
    assert found[LIST].tolist() == [0, 1, 1, 1, -1, -1, 1, -1, 3, -1]
    how = [BY_NAME, BY_TIME, BY_TIME, BY_TIME, BY_NONE, BY_NONE, BY_TIME, BY_NONE, BY_NAME, BY_NONE]
    assert found[ACTED_BY].tolist() == how


def test_what_was_passed_over_above_the_last_act_is_an_exposed_negative() -> None:
    shown = lists((1_000, "a", 1, [10, 11, 12, 13, 14, 15]), (2_000, "b", 2, [10, 11]), (3_000, "c", 3, [10, 11]))
    sent = events(
        (5_000, 1, 11, 2, "a"),
        (5_001, 1, 14, 5, "a"),
        (5_002, 1, 14, 4, "a"),  # rated again: the same act
        (9_000_000, 1, 12, 5, None),  # rated much later, and so no negative
        (5_003, 3, 11, 5, None),
    )
    seen = exposures(answered(sent, shown), shown, a_dataset())
    columns = [ITEM, PLACE, LogColumn.NAMED, LogColumn.ACTED, Column.LABEL]
    # Item 15 stands below the last act; the second list was not acted on, and nobody names the third.
    first = [[10, 1, 1, 0, 0], [11, 2, 1, 1, 0], [13, 4, 1, 0, 0], [14, 5, 1, 1, 1]]
    assert seen[columns].to_numpy().tolist() == [*first, [10, 1, 0, 0, 0], [11, 2, 0, 1, 1]]


def test_a_log_drained_before_a_column_was_declared_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path))
    table = catalogue.IMPRESSIONS_LOG
    table.file.parent.mkdir(parents=True)
    older = pa.table({name: pa.nulls(2, table.present_schema.field(name).type) for name in table.present_schema.names})
    pq.write_table(older.drop_columns([LogColumn.TEAM]), table.file)
    kept = drained(table)
    assert kept.schema == table.present_schema and len(kept) == 2 and kept[LogColumn.TEAM].null_count == 2
