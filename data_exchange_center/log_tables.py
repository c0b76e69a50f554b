"""Artefacts of the way back: what the server logged, and what training makes of it. catalogue.py
lists them as its own.

Ids are those by which users and items are known inside; the text of a text id stands beside them where an event brought
one, since a new user's text is known from nowhere else.
"""

import pyarrow as pa

from data_exchange_center.artefact import Json
from data_exchange_center.columns import Column, LogColumn
from data_exchange_center.dataset import Document
from data_exchange_center.table_artefact import Table

_DRAIN = "online_to_offline/s1_log_to_tables.py"
_ROWS = "online_to_offline/s2_training_rows.py"
_SPLIT = "offline/preprocess/s1_data_split.py"


class StreamPosition(Document):
    """How far a stream has been read.

    Attributes:
        milliseconds, number: id of the last entry.
        read: entries read so far.
        unreadable: of these, such as no model of log_entries.py declares; they are in no table.
        lost: entries that the stream dropped before they were read, because it was full.
    """

    milliseconds: int = 0
    number: int = 0
    read: int = 0
    unreadable: int = 0
    lost: int = 0


class LogPositions(Document):
    """How far both streams have been read; written together with the tables, so that none is read twice or lost."""

    impressions: StreamPosition = StreamPosition()
    events: StreamPosition = StreamPosition()


class LogRows(Document):
    """What the stage of the training rows found in the log.

    Attributes:
        events: accepted ones.
        answering_by_name, answering_by_time: those that answer a list: which they named, or in which the item was shown
            to the user within `window_seconds` before.
        positives: liked items among them.
        exposed_negatives: items that were shown above the last one acted on, and not acted on.
        checked, different: shown items whose features were computed again from the artefacts; differences from the log.
        unchecked_lists: by reason, lists whose features cannot be computed again.
    """

    lists: int
    events: int
    answering_by_name: int
    answering_by_time: int
    window_seconds: int
    positives: int
    exposed_negatives: int
    checked: int
    different: int
    unchecked_lists: dict[str, int]


LIST_KEY = [LogColumn.MILLISECONDS, LogColumn.NUMBER]  # of a list's entry in the log
_ENTRY = [(name, pa.int64()) for name in LIST_KEY]
_TEXT_IDS = [(Column.EXTERNAL_USERID, pa.string()), (Column.EXTERNAL_ITEMID, pa.string())]

IMPRESSIONS_LOG = Table(
    "online_to_offline/impressions_log.parquet",
    _DRAIN,
    "Each item of each list that was shown, by the id of the list's entry in the stream and by position.",
    pa.schema(
        [
            *_ENTRY,
            (LogColumn.POSITION, pa.int32()),
            (LogColumn.REQUEST_ID, pa.string()),
            (LogColumn.TIME, pa.int64()),
            (Column.USERID, pa.int64()),
            (Column.ITEMID, pa.int64()),
            (LogColumn.SCORE, pa.float32()),
            (LogColumn.RECALL_SCORE, pa.float32()),
            (LogColumn.RECALLED_BY, pa.string()),
            (LogColumn.FEATURES, pa.string()),
            (LogColumn.RECENT_ITEMS, pa.list_(pa.int64())),
            (LogColumn.RECENT_RATINGS, pa.list_(pa.float32())),
            (LogColumn.MODEL_VERSION, pa.string()),
            (LogColumn.LOAD, pa.string()),
            (LogColumn.ARM, pa.string()),
            (LogColumn.PROPENSITY, pa.float32()),
            (LogColumn.TEAM, pa.string()),
            (LogColumn.SHADOW_VERSION, pa.string()),
            (LogColumn.SHADOW_SCORE, pa.float32()),
            (LogColumn.SHADOW_POSITION, pa.int32()),
            (LogColumn.DEGRADED, pa.string()),
            (LogColumn.FALLBACK, pa.string()),
        ]
    ),
    sorted_by=(LogColumn.MILLISECONDS, LogColumn.NUMBER, LogColumn.POSITION),
)
EVENTS_LOG = Table(
    "online_to_offline/events_log.parquet",
    _DRAIN,
    "Each accepted event, in the order in which they were counted.",
    pa.schema(
        [
            *_ENTRY,
            (Column.USERID, pa.int64()),
            (Column.ITEMID, pa.int64()),
            *_TEXT_IDS,
            (Column.RATING, pa.float32()),
            (Column.TIMESTAMP, pa.int64()),
            (LogColumn.REQUEST_ID, pa.string()),
        ]
    ),
    sorted_by=(LogColumn.MILLISECONDS, LogColumn.NUMBER),
)
LOG_POSITIONS = Json(
    "online_to_offline/log_positions.json",
    _DRAIN,
    "How far both streams have been read, and how many entries were lost before.",
    LogPositions,
)
EVENT_RATINGS = Table(
    "online_to_offline/event_ratings.parquet",
    _ROWS,
    "The events as ratings in the data set's own ids, by arrival: what a retraining reads beside the original ratings.",
    pa.schema(
        [
            (Column.USERID, pa.int64()),
            (Column.ITEMID, pa.int64()),
            *_TEXT_IDS,
            (Column.RATING, pa.float32()),
            (Column.TIMESTAMP, pa.int64()),
        ]
    ),
)
EXPOSURES = Table(
    "online_to_offline/exposures.parquet",
    _ROWS,
    "Each item that was shown down to the last one acted on: whether it was acted on, and liked.",
    pa.schema(
        [
            *_ENTRY,
            (LogColumn.POSITION, pa.int32()),
            (LogColumn.REQUEST_ID, pa.string()),
            (Column.USERID, pa.int64()),
            (Column.ITEMID, pa.int64()),
            (LogColumn.NAMED, pa.uint8()),
            (LogColumn.ACTED, pa.uint8()),
            (Column.LABEL, pa.uint8()),
            (LogColumn.ARM, pa.string()),
            (LogColumn.PROPENSITY, pa.float32()),
            (LogColumn.TEAM, pa.string()),
        ]
    ),
    sorted_by=(LogColumn.MILLISECONDS, LogColumn.NUMBER, LogColumn.POSITION),
)
LOG_ROWS = Json(
    "online_to_offline/log_rows.json",
    _ROWS,
    "How many events answer a list, what became of what was shown, and whether the features shown are training's.",
    LogRows,
)
ACTED_LISTS = Table(
    "offline/common/acted_lists.parquet",
    _SPLIT,
    "What was seen of each list that an event names, in the vocabularies' indices; empty without a retraining's log.",
    pa.schema(
        [
            (LogColumn.LIST, pa.int64()),
            (Column.USER_INDEX, pa.int32()),
            (Column.ITEM_INDEX, pa.int32()),
            (LogColumn.ACTED, pa.uint8()),
        ]
    ),
    sorted_by=(LogColumn.LIST,),
    unique=False,
)
OF_THE_WAY_BACK = (IMPRESSIONS_LOG, EVENTS_LOG, LOG_POSITIONS, EVENT_RATINGS, EXPOSURES, LOG_ROWS, ACTED_LISTS)
