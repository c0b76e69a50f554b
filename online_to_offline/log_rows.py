"""Entries of the log as rows of tables."""

from collections.abc import Sequence

import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.columns import Column, LogColumn
from data_exchange_center.external_ids import ExternalId, internal_id
from data_exchange_center.log_entries import LoggedEvent, ShownList
from online.callers.redis_streams import EntryId


def shown_rows(lists: Sequence[tuple[EntryId, ShownList]]) -> pa.Table:
    """Catalogue entry IMPRESSIONS_LOG: a row for each item of each list."""
    sizes = [len(shown.items) for _, shown in lists]

    def of_list(values: Sequence[object]) -> list[object]:
        """[rows] a value of each list, once for each of its items."""
        return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]

    def of_items(columns: Sequence[Sequence[object]]) -> list[object]:
        """[rows] a value of each item; none where a list has no such column."""
        return [
            value
            for column, size in zip(columns, sizes, strict=True)
            for value in (column if len(column) == size else [None] * size)
        ]

    entries = [entry for entry, _ in lists]
    shown = [content for _, content in lists]
    columns = {
        LogColumn.MILLISECONDS: of_list([entry.milliseconds for entry in entries]),
        LogColumn.NUMBER: of_list([entry.number for entry in entries]),
        LogColumn.POSITION: [place for size in sizes for place in range(1, size + 1)],
        LogColumn.REQUEST_ID: of_list([one.request_id for one in shown]),
        LogColumn.TIME: of_list([one.time for one in shown]),
        Column.USERID: of_list([one.userid for one in shown]),
        Column.ITEMID: of_items([one.items for one in shown]),
        LogColumn.SCORE: of_items([one.scores for one in shown]),
        LogColumn.RECALL_SCORE: of_items([one.recall_scores for one in shown]),
        LogColumn.RECALLED_BY: of_items([one.recalled_by for one in shown]),
        LogColumn.FEATURES: of_items([one.features for one in shown]),
        LogColumn.RECENT_ITEMS: of_list([one.recent_items for one in shown]),
        LogColumn.RECENT_RATINGS: of_list([one.recent_ratings for one in shown]),
        LogColumn.MODEL_VERSION: of_list([one.model_version for one in shown]),
        LogColumn.LOAD: of_list([one.load for one in shown]),
        LogColumn.ARM: of_list([one.arm for one in shown]),
        LogColumn.PROPENSITY: of_list([one.propensity for one in shown]),
        LogColumn.TEAM: of_items([one.teams for one in shown]),
        LogColumn.SHADOW_VERSION: of_list([one.shadow_version for one in shown]),
        LogColumn.SHADOW_SCORE: of_items([one.shadow_scores for one in shown]),
        LogColumn.SHADOW_POSITION: of_items([one.shadow_positions for one in shown]),
        LogColumn.DEGRADED: of_list(["+".join(one.degraded) for one in shown]),
        LogColumn.FALLBACK: of_list([one.fallback for one in shown]),
    }
    return pa.table(columns, schema=catalogue.IMPRESSIONS_LOG.present_schema)


def event_rows(events: Sequence[tuple[EntryId, LoggedEvent]]) -> pa.Table:
    """Catalogue entry EVENTS_LOG: a row for each event."""

    def text(external: ExternalId) -> str | None:
        return external if isinstance(external, str) else None

    contents = [event for _, event in events]
    columns = {
        LogColumn.MILLISECONDS: [entry.milliseconds for entry, _ in events],
        LogColumn.NUMBER: [entry.number for entry, _ in events],
        Column.USERID: [internal_id(event.userid) for event in contents],
        Column.ITEMID: [internal_id(event.itemid) for event in contents],
        Column.EXTERNAL_USERID: [text(event.userid) for event in contents],
        Column.EXTERNAL_ITEMID: [text(event.itemid) for event in contents],
        Column.RATING: [event.rating for event in contents],
        Column.TIMESTAMP: [event.ts for event in contents],
        LogColumn.REQUEST_ID: [event.request_id for event in contents],
    }
    return pa.table(columns, schema=catalogue.EVENTS_LOG.present_schema)
