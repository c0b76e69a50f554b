"""The two logs in Redis Streams: the server appends to them, and online_to_offline/ reads them by ranges of ids.

In a cluster each of them lies on one node, by its key.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import redis

from data_exchange_center.log_entries import LoggedEvent
from data_exchange_center.serving_names import LOG_FIELD, REDIS_ADDED, REDIS_EVENT_LOG, REDIS_IMPRESSIONS
from online.callers.redis_values import FAULTS, fault_of
from online.callers.types import Impression


class EntryId(NamedTuple):
    """A stream entry's id: milliseconds by Redis's clock, and a number among those of the same millisecond."""

    milliseconds: int
    number: int

    @classmethod
    def parse(cls, written: bytes) -> "EntryId":
        """From `1526919030474-55`."""
        milliseconds, _, number = written.decode().partition("-")
        return cls(int(milliseconds), int(number))

    def __str__(self) -> str:
        """As Redis writes it."""
        return f"{self.milliseconds}-{self.number}"


class Entry(NamedTuple):
    """An entry of a stream: its id, and its JSON."""

    id: EntryId
    content: bytes


START = EntryId(0, 0)  # no entry's


def log_events(pipe: redis.client.Pipeline, events: Sequence[Impression], length: int) -> None:
    """Puts into a transaction or pipeline what logs those events that have an origin.

    Args:
        pipe: of the Redis that has the log.
        events: in the order in which they were counted.
        length: entries that the log keeps, about.
    """
    entries = [
        LoggedEvent(**event.origin.model_dump(), rating=event.rating, ts=event.timestamp)
        for event in events
        if event.origin is not None
    ]
    _append(pipe, REDIS_EVENT_LOG, [entry.model_dump_json(exclude_none=True) for entry in entries], length)


def append_events(events: Sequence[Impression], length: int, client: redis.Redis) -> None:
    """Logs the events, in one round trip."""
    if events:
        with client.pipeline(transaction=False) as pipe:
            log_events(pipe, events, length)
            pipe.execute()


def append_lists(lists: Sequence[str], length: int, client: redis.Redis) -> None:
    """Logs lists that were shown, each as JSON, in one round trip."""
    with client.pipeline(transaction=False) as pipe:
        _append(pipe, REDIS_IMPRESSIONS, lists, length)
        pipe.execute()


def _append(pipe: redis.client.Pipeline, stream: str, entries: Sequence[str], length: int) -> None:
    for entry in entries:
        pipe.xadd(stream, {LOG_FIELD: entry}, maxlen=length, approximate=True)
    if entries:
        pipe.incrby(REDIS_ADDED.format(stream), len(entries))


def blocks_after(client: redis.Redis, stream: str, last: EntryId, size: int) -> Iterator[list[Entry]]:
    """The entries behind `last` in the order of their ids, some at a time.

    The reading ends with the entry that was the last one when it began, however many come in meanwhile.

    Raises:
        ServiceUnavailable: Redis does not respond, or holds something else under the key.
    """
    try:
        newest: Any = client.xrevrange(stream, count=1)
        end = EntryId.parse(newest[0][0]) if newest else START
        while last < end:
            found: Any = client.xrange(stream, min=f"({last}", max=str(end), count=size)
            if not found:
                return
            entries = [Entry(EntryId.parse(written), fields[LOG_FIELD.encode()]) for written, fields in found]
            yield entries
            last = entries[-1].id
    except (*FAULTS, KeyError) as error:
        raise fault_of(error) from error


def added(client: redis.Redis, stream: str) -> int:
    """How many entries the stream has ever got, those included that were cut off.

    Raises:
        ServiceUnavailable: Redis does not respond.
    """
    try:
        counted: Any = client.get(REDIS_ADDED.format(stream))
        return int(counted or 0)
    except FAULTS as error:
        raise fault_of(error) from error


def cut_off(client: redis.Redis, stream: str, last: EntryId) -> None:
    """Removes the entries up to `last`, which have been read.

    Raises:
        ServiceUnavailable: Redis does not respond.
    """
    try:
        client.xtrim(stream, minid=str(EntryId(last.milliseconds, last.number + 1)), approximate=False)
    except FAULTS as error:
        raise fault_of(error) from error
