"""The engine of a cluster: whole users by part, handed to the functions that one process calls with all of them.

The recipe is the same each time: `repartitionByRange` by user, so that a part holds whole users and a range of them;
`sortWithinPartitions` into the split's order; `mapInArrow`, which gives the part to the function. What no part can know
alone is counted by Spark in between: the vocabularies, and how many rows the parts before it hold, from which follows
the number of each of its own rows.
"""

import shutil
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JError
from pyspark import StorageLevel, TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from data_exchange_center.arrays import Int64Array
from data_exchange_center.columns import Column, Split
from data_exchange_center.dataset import RatingScale
from data_exchange_center.features import FeatureSet
from data_exchange_center.schemas import fields
from data_exchange_center.settings import Settings
from data_exchange_center.table_artefact import Table
from offline.engines.engine import STAGING, EngineError
from offline.engines.spark_session import SparkParts, map_parts, start_session
from offline.preprocess.encoding import external_ids
from offline.preprocess.histories import (
    OF_IMPRESSIONS,
    Histories,
    ItemGenres,
    seen_items,
    windows_after,
    windows_before,
)
from offline.preprocess.readers.layout import DataSource
from offline.preprocess.splitting import SplitRatings, split_users, with_indices
from offline.rank import training_rows

ROW, PART = "row", "part"  # of a rating in its file; of a row's part, while the rows have no number of their own
RATINGS = pa.schema(
    [
        (Column.USERID, pa.int64()),
        (Column.ITEMID, pa.int64()),
        (Column.RATING, pa.float32()),
        (Column.TIMESTAMP, pa.int64()),
        (ROW, pa.int64()),
    ]
)
SPLIT_ROWS = pa.schema(
    [*list(RATINGS)[:4], pa.field(Column.LABEL, pa.uint8()), pa.field(Column.SPLIT, pa.uint8())]
    + [pa.field(PART, pa.int64()), pa.field(ROW, pa.int64())]
)


class SparkEngine:
    """See `Engine`. Driver and workers find the artefacts under the same path: on one machine, or on a shared disk."""

    def __init__(self, settings: Settings) -> None:
        """Starts a session.

        Raises:
            EngineError: it cannot be had.
        """
        self._session = start_session(settings)
        self._part_rows = settings.spark_part_rows
        self._staging = settings.artefacts / STAGING
        self._staging.mkdir(parents=True)

    def __enter__(self) -> "SparkEngine":
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Ends the session; what was staged is removed.

        Raises:
            EngineError: Spark has failed, as when it has lost all its workers.
        """
        with suppress(Py4JError):  # of a JVM that is gone
            self._session.stop()
        shutil.rmtree(self._staging, ignore_errors=True)
        if isinstance(error, PySparkException | Py4JError):
            told = str(error).strip().splitlines()[0]
            raise EngineError(f"Spark has failed ({told}): see to its workers, and run the stage again.") from error

    def split(self, data: DataSource) -> SplitRatings:
        """See `Engine`."""
        ratings = data.ratings()
        count, texts = len(ratings), external_ids(ratings)
        staged = self._stage_ratings(ratings)
        del ratings  # as large as the data set, and in this process alone
        split = partial(_split_part, online_rows=data.online_rows, scale=data.scale)
        by_user = self._by_user(staged, count, Column.TIMESTAMP, ROW)
        rows = self._staged(SparkParts(by_user, split, RATINGS), SPLIT_ROWS, "split")
        counted = _counted(rows, PART, Column.SPLIT, Column.LABEL)
        userids, user_ids = _ids(rows, Column.USERID)
        itemids, item_ids = _ids(rows, Column.ITEMID)
        known = self._session.sparkContext.broadcast((user_ids, item_ids, _first_rows(counted)))
        offline, online = partial(_offline_part, known=known), partial(_online_part, known=known)
        return SplitRatings(
            offline=SparkParts(rows.filter(F.col(Column.SPLIT) != Split.ONLINE), offline, SPLIT_ROWS),
            online=SparkParts(rows.filter(F.col(Column.SPLIT) == Split.ONLINE), online, SPLIT_ROWS),
            userids=userids,
            itemids=itemids,
            user_ids=user_ids,
            item_ids=item_ids,
            external_ids=texts,
            counts={
                part: tuple(  # type: ignore[misc]
                    int(counted["count"][(counted[Column.SPLIT] == part) & (counted[Column.LABEL] == label)].sum())
                    for label in (1, 0)
                )
                for part in Split.ALL
            },
            repeated=count - int(counted["count"].sum()),
        )

    def histories(self, impressions: Table, users: pa.Table, genres: ItemGenres, features: FeatureSet) -> Histories:
        """See `Engine`."""
        schema = pa.schema([impressions.present_schema.field(name) for name in OF_IMPRESSIONS])
        stored = self._read(impressions, *OF_IMPRESSIONS)
        rows = self._by_user(stored, impressions.stored().rows, Column.TIMESTAMP, Column.IMPRESSION)
        rows = rows.persist(StorageLevel.DISK_ONLY)
        known = self._session.sparkContext.broadcast(genres)
        before = partial(_windows_before, genres=known, features=features)
        after = partial(_windows_after, genres=known, features=features)
        windows = pa.schema([(Column.USERID, pa.int64()), *fields(features.history_counts, pa.uint8())])
        newest = map_parts(rows, after, windows, schema).toArrow()
        items = rows.groupBy(Column.ITEMID).agg(
            F.count("*").alias("impressions"),
            F.sum(((F.col(Column.LABEL) == 1) & (F.col(Column.SPLIT) != Split.TEST)).cast("long")).alias("positives"),
        )
        counts = items.toArrow()
        return Histories(
            before=SparkParts(rows, before, schema),
            newest=_for_all(users[Column.USERID].to_numpy(), newest),
            seen=SparkParts(rows, seen_items, schema),
            impressions=_by_item(counts, "impressions", genres),
            positives=_by_item(counts, "positives", genres),
        )

    def training_frame(
        self, impressions: Table, history: Table, users: pa.Table, items: pa.Table, features: FeatureSet
    ) -> SparkParts:
        """See `Engine`."""
        names = training_rows.OF_IMPRESSIONS
        schema = pa.schema([impressions.present_schema.field(name) for name in names])
        entities = self._session.sparkContext.broadcast((users, items))
        build = partial(_training_rows, history=history, entities=entities, features=features)
        rows = self._read(impressions, *names)
        return SparkParts(rows, build, schema)

    def _stage_ratings(self, ratings: pa.Table) -> DataFrame:
        """The ratings with their number in the file, in one file a part."""
        folder = self._staging / "ratings"
        folder.mkdir()
        numbered = ratings.select(RATINGS.names[:4]).append_column(ROW, pa.array(np.arange(len(ratings))))
        for start in range(0, len(ratings), self._part_rows):
            pq.write_table(numbered.slice(start, self._part_rows), folder / f"{start:015}.parquet", compression="zstd")
        return self._session.read.parquet(folder.as_uri())

    def _staged(self, parts: SparkParts, schema: pa.Schema, name: str) -> DataFrame:
        """The rows, computed once and kept on disk: what is counted of them is what is then read."""
        folder = self._staging / name
        parts.write(folder, schema)
        return self._session.read.parquet(folder.as_uri())

    def _read(self, table: Table, *names: str) -> DataFrame:
        """Columns of an artefact, one partition a file, in the order of its rows within each."""
        stored = table.stored()
        if not stored.files:
            return self._session.createDataFrame(table.present_schema.empty_table()).select(*names)
        return self._session.read.parquet(*(file.as_uri() for file in stored.files)).select(*names)

    def _by_user(self, frame: DataFrame, rows: int, *order: str) -> DataFrame:
        """The frame in parts that hold whole users, in the order of userid and then of `order`."""
        parts = max(-(-rows // self._part_rows), self._session.sparkContext.defaultParallelism)
        return frame.repartitionByRange(parts, Column.USERID).sortWithinPartitions(Column.USERID, *order)


# What follows runs on the workers, once for each part.


def _split_part(ratings: pa.Table, online_rows: int, scale: RatingScale) -> pa.Table:
    """SPLIT_ROWS of a part: the number of a row counts the part's offline rows before it."""
    rows = split_users(ratings, online_rows, scale)
    offline = rows[Column.SPLIT].to_numpy() != Split.ONLINE
    context = TaskContext.get()
    assert context
    part = np.full(len(rows), context.partitionId())
    return rows.append_column(PART, pa.array(part)).append_column(ROW, pa.array(np.cumsum(offline) - offline))


def _offline_part(rows: pa.Table, known: Any) -> pa.Table:
    user_ids, item_ids, first_rows = known.value
    part = int(rows[PART][0].as_py())  # all rows are of one part: a part is a file, and a file is read by one task
    numbers = pa.array(rows[ROW].to_numpy() + first_rows[part])
    return with_indices(rows, user_ids, item_ids).add_column(0, Column.IMPRESSION, numbers)


def _online_part(rows: pa.Table, known: Any) -> pa.Table:
    user_ids, item_ids, _ = known.value
    return with_indices(rows, user_ids, item_ids).drop_columns([Column.SPLIT])


def _windows_before(rows: pa.Table, genres: Any, features: FeatureSet) -> pa.Table:
    return windows_before(rows, genres.value, features)


def _windows_after(rows: pa.Table, genres: Any, features: FeatureSet) -> pa.Table:
    return windows_after(rows, np.unique(rows[Column.USERID].to_numpy()), genres.value, features)


def _training_rows(rows: pa.Table, history: Table, entities: Any, features: FeatureSet) -> pa.Table:
    # The windows lie in the order of the impressions, so that a part's are a range of them: a join would shuffle what
    # is in order already.
    first, (users, items) = int(rows[Column.IMPRESSION][0].as_py()), entities.value
    return training_rows.training_rows(rows, history.load(rows=(first, first + len(rows))), users, items, features)


# What follows runs in this process, on what Spark has counted.

Counted = dict[str, npt.NDArray[np.int64]]


def _counted(rows: DataFrame, *names: str) -> Counted:
    """Columns of the values that occur of these columns, and how often: `count`."""
    table = rows.groupBy(*names).count().toArrow()
    return {name: table[name].to_numpy().astype(np.int64) for name in table.column_names}


def _first_rows(counted: Counted) -> dict[int, int]:
    """How many offline rows precede each part: its first row's number."""
    offline = counted[Column.SPLIT] != Split.ONLINE
    by_part = np.bincount(counted[PART], np.where(offline, counted["count"], 0)).astype(np.int64)
    return dict(enumerate((np.cumsum(by_part) - by_part).tolist()))


def _ids(rows: DataFrame, key: str) -> tuple[Int64Array, Int64Array]:
    """All ids of a key, and those that occur in offline rows, ascending."""
    table = rows.groupBy(key).agg(F.min(Column.SPLIT).alias("first")).toArrow().sort_by(key)
    ids = table[key].to_numpy()
    return ids, ids[table["first"].to_numpy() != Split.ONLINE]


def _for_all(users: Int64Array, newest: pa.Table) -> pa.Table:
    """USER_HISTORY of all users from that of those who have impressions; zeros for the others."""
    known = np.searchsorted(users, newest[Column.USERID].to_numpy())
    columns: dict[str, Any] = {Column.USERID: users}
    for name in newest.column_names[1:]:
        columns[name] = np.zeros(len(users), np.uint8)
        columns[name][known] = newest[name].to_numpy()
    return pa.table(columns)


def _by_item(counts: pa.Table, name: str, genres: ItemGenres) -> Int64Array:
    """[items] a count of each item, 0 where it has none."""
    result = np.zeros(len(genres.itemids), np.int64)
    result[np.searchsorted(genres.itemids, counts[Column.ITEMID].to_numpy())] = counts[name].to_numpy()
    return result
