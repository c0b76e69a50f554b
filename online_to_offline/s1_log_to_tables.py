"""Drains what the server logged, lists and events, out of Redis into tables.

    python -m online_to_offline.s1_log_to_tables

Why: a stream in memory is bounded, and training reads tables. Both streams are read in blocks by ranges of ids, from
the entry after the last one that the tables hold to the one that is the newest when the reading begins. Tables and
positions appear together, and only then are the streams cut off: a drain that is killed at any moment loses nothing
and doubles nothing. What the stream had to drop before, because it was full, is counted.
"""

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import redis
from pydantic import BaseModel, ValidationError

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.commit import writing
from data_exchange_center.log_entries import LoggedEvent, ShownList
from data_exchange_center.log_tables import LogPositions, StreamPosition
from data_exchange_center.serving_names import REDIS_EVENT_LOG, REDIS_IMPRESSIONS
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.table_artefact import Table
from online.callers.redis_stores import redis_client
from online.callers.redis_streams import EntryId, added, blocks_after, cut_off
from online.callers.redis_values import fault_of
from online_to_offline.log_rows import event_rows, shown_rows

logger = logging.getLogger(__name__)

READS: Artefacts = ()
WRITES = (catalogue.IMPRESSIONS_LOG, catalogue.EVENTS_LOG, catalogue.LOG_POSITIONS)

TIMEOUT = 30.0  # seconds
ENTRIES_AT_A_TIME = 1_000

Model = TypeVar("Model", bound=BaseModel)
Read = tuple[EntryId, Model]


def drained(table: Table) -> pa.Table:
    """What earlier drains have written; no rows where there was none.

    A log cannot be made again: columns that were declared since are empty in what was drained before.
    """
    schema = table.present_schema
    if not table.file.exists():
        return schema.empty_table()
    if set(pq.read_schema(table.file).names) >= set(schema.names):
        return table.load()
    stored = pq.read_table(table.file)
    columns = [
        stored[field.name] if field.name in stored.column_names else pa.nulls(len(stored), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def positions() -> LogPositions:
    """How far earlier drains have come."""
    known = catalogue.LOG_POSITIONS
    return known.load() if known.file.exists() else LogPositions()


def read_stream(
    client: redis.Redis, stream: str, model: type[Model], position: StreamPosition
) -> Iterator[tuple[list[Read[Model]], StreamPosition]]:
    """The entries behind a position, a block at a time, each block with the position after it.

    An entry that is not what the model declares is left out, counted and warned of: nobody could mend it, and the
    entries behind it must not wait for it.
    """
    last = EntryId(position.milliseconds, position.number)
    for block in blocks_after(client, stream, last, ENTRIES_AT_A_TIME):
        entries: list[Read[Model]] = []
        for entry in block:
            try:
                entries.append((entry.id, model.model_validate_json(entry.content)))
            except ValidationError as error:
                logger.warning("entry %s of %s is left out: %s", entry.id, stream, error.errors()[0]["msg"])
        position = StreamPosition(
            milliseconds=block[-1].id.milliseconds,
            number=block[-1].id.number,
            read=position.read + len(block),
            unreadable=position.unreadable + len(block) - len(entries),
            lost=position.lost,
        )
        yield entries, position


def with_losses(client: redis.Redis, stream: str, position: StreamPosition) -> StreamPosition:
    """The position with what the stream has dropped before it could be read.

    The stream counts what it ever got. What it got, holds no longer behind the position, and was not read, is lost.
    """
    ever = added(client, stream)  # before the next line: what comes in between is not lost
    unread = sum(len(block) for block in blocks_after(client, stream, _last(position), ENTRIES_AT_A_TIME))
    lost = ever - unread - position.read
    return position.model_copy(update={"lost": max(lost, position.lost)})


def _last(position: StreamPosition) -> EntryId:
    return EntryId(position.milliseconds, position.number)


def drain(
    client: redis.Redis,
    stream: str,
    model: type[Model],
    to_rows: Callable[[list[Read[Model]]], pa.Table],
    before: StreamPosition,
) -> tuple[list[pa.Table], StreamPosition]:
    """The new rows of a stream, and the position after them."""
    tables, position = [], before
    for entries, after in read_stream(client, stream, model, before):
        tables.append(to_rows(entries))
        position = after
    return tables, with_losses(client, stream, position)


def main() -> None:
    """Reads both streams, writes the tables with the new rows, then cuts the streams off."""
    before = positions()
    lists, events = drained(catalogue.IMPRESSIONS_LOG), drained(catalogue.EVENTS_LOG)
    try:
        with redis_client(Settings(), TIMEOUT) as client:
            # Events first: the lists that they answer are there then.
            new_events, of_events = drain(client, REDIS_EVENT_LOG, LoggedEvent, event_rows, before.events)
            new_lists, of_lists = drain(client, REDIS_IMPRESSIONS, ShownList, shown_rows, before.impressions)
            with writing(WRITES) as out:
                out.save(catalogue.IMPRESSIONS_LOG, pa.concat_tables([lists, *new_lists]))
                out.save(catalogue.EVENTS_LOG, pa.concat_tables([events, *new_events]))
                out.save(catalogue.LOG_POSITIONS, LogPositions(impressions=of_lists, events=of_events))
            cut_off(client, REDIS_EVENT_LOG, _last(of_events))
            cut_off(client, REDIS_IMPRESSIONS, _last(of_lists))
    except redis.RedisError as error:
        raise fault_of(error) from error
    for what, old, new in (("lists", before.impressions, of_lists), ("events", before.events, of_events)):
        print(f"{new.read - old.read:,} {what} drained, {new.read:,} in all, {new.lost:,} lost before")


if __name__ == "__main__":
    run_stage(main)
