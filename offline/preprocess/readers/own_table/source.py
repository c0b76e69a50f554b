"""A table of one's own: CSV or parquet with any columns, ids that are integers or text, described by dataset.toml."""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data_exchange_center.columns import Column
from data_exchange_center.dataset import RatingScale
from data_exchange_center.vocabularies import Categories
from offline.preprocess.readers.layout import read_readable
from offline.preprocess.readers.own_table import side_information
from offline.preprocess.readers.own_table.description import DESCRIPTION, SUFFIXES, Description, Section
from offline.preprocess.readers.own_table.table_file import open_table
from offline.preprocess.readers.own_table.values import check_present, read_ids, read_numbers
from offline.preprocess.readers.text import DataError
from offline.preprocess.readers.times import with_seconds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnTable:
    """A folder with a dataset.toml: a `DataSource`. Ratings are read once, and kept.

    Raises:
        DataError: there is no file of ratings, or a file that the description names is not there.
    """

    folder: Path
    description: Description

    def __post_init__(self) -> None:
        """Finds the files, so that a missing one is told before any is read."""
        _ = self.files

    @property
    def users_file(self) -> str | None:
        """The name of the file of users; None where there is none."""
        return self._file("users", self.description.users, self.description.users.file)

    @property
    def movies_file(self) -> str | None:
        """The name of the file of items; None where there is none."""
        return self._file("items", self.description.items, self.description.items.file)

    @property
    def ratings_file(self) -> str:
        """The name of the file of ratings."""
        name = self._file("ratings", self.description.ratings, self.description.ratings.file)
        if name is None:
            looked_for = ", ".join(f"ratings{suffix}" for suffix in SUFFIXES)
            others = sorted(place.name for place in self.folder.iterdir() if place.name != DESCRIPTION)[:5]
            there = f", but {', '.join(others)}" if others else ""
            remedy = f"name the file in {DESCRIPTION}, [ratings] file; it is one file, and not compressed"
            raise DataError(f"{self.folder} has none of {looked_for}{there}: {remedy}.")
        return name

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        names = (DESCRIPTION, self.ratings_file, self.users_file, self.movies_file)
        return [self.folder / name for name in names if name]

    @property
    def online_rows(self) -> int:
        """How many of each user's last rows are kept for the online evaluation."""
        return self.description.online_rows

    @property
    def fixed_categories(self) -> Categories | None:
        """None: the categories follow from the data."""
        return None

    @cached_property
    def scale(self) -> RatingScale:
        """The range of the ratings, and which of them are positives.

        Raises:
            DataError: positive_above leaves no positive, or nothing else.
        """
        bounds = pc.min_max(self._ratings[Column.RATING])
        # The shortest decimal that single precision tells from its neighbours: 0.1, not 0.10000000149.
        lowest, highest = (float(str(np.float32(bounds[end].as_py()))) for end in ("min", "max"))
        above = self.description.positive_above
        if lowest == highest:
            raise DataError(
                f"{self.folder / self.ratings_file}: all ratings are {lowest:g}, and a ranking is learned from ratings "
                "that differ: add those of what was not liked."
            )
        if not np.float32(lowest) <= np.float32(above) < np.float32(highest):
            remedy = f"set it to {lowest:g} or more, and less than {highest:g}"
            raise DataError(
                f"{self.folder / DESCRIPTION}: positive_above = {above:g} parts no ratings, which run from {lowest:g} "
                f"to {highest:g} in {self.ratings_file}: {remedy}."
            )
        return RatingScale(lowest=lowest, highest=highest, positive_above=above)

    def ratings(self) -> pa.Table:
        """userid int64, itemid int64, rating float32 and timestamp int64 (seconds), in file order.

        Where times are finer than a second, the rows are in their order. Text ids stand in EXTERNAL_USERID and
        EXTERNAL_ITEMID besides, as they came.

        Raises:
            DataError: the file is malformed; so do the others.
        """
        return self._ratings

    def users(self) -> pd.DataFrame:
        """userid int64, external_userid where ids are text, and user_<name> as text for each category, None for none.

        Without a file of users the table is empty, and a warning says so.
        """
        external = [Column.EXTERNAL_USERID] if Column.EXTERNAL_USERID in self._ratings.column_names else []
        if self.users_file is None:
            logger.warning("%s holds no users' file: nothing is known of users but their ratings.", self.folder)
            return side_information.empty(Column.USERID, *external)
        users = self.description.users
        userid = users.userid or self.description.ratings.userid
        table = read_readable(lambda file: open_table(file, [userid]), self.folder / self.users_file)
        return side_information.read_users(table, userid, users.categories, as_text=bool(external))

    def movies(self) -> pd.DataFrame:
        """itemid int64, external_itemid where ids are text, title, genres as lists, and item_<name> for each category.

        Without a file of items the table is empty, and a warning says so.
        """
        external = [Column.EXTERNAL_ITEMID] if Column.EXTERNAL_ITEMID in self._ratings.column_names else []
        if self.movies_file is None:
            logger.warning("%s holds no items' file: nothing is known of items but their ratings.", self.folder)
            return side_information.empty(Column.ITEMID, *external, Column.TITLE, Column.GENRES)
        items = self.description.items
        itemid = items.itemid or self.description.ratings.itemid
        named = [getattr(items, key) for key in ("title", "genres") if key in items.model_fields_set]
        table = read_readable(lambda file: open_table(file, [itemid, *named]), self.folder / self.movies_file)
        return side_information.read_items(table, itemid, items, as_text=bool(external))

    @cached_property
    def _ratings(self) -> pa.Table:
        names = self.description.ratings
        file = self.folder / self.ratings_file
        table = read_readable(lambda file: open_table(file, names.names), file)
        content = read_readable(lambda _: table.read(names.names, repeated=names.names[:2]), file)
        if content.num_rows == 0:
            raise DataError(f"{file} has no row: it needs {', '.join(names.names)} of each rating.")
        userid, external_userid = read_ids(content[names.userid], names.userid, table)
        itemid, external_itemid = read_ids(content[names.itemid], names.itemid, table)
        check_present(content[names.timestamp], names.timestamp, table)
        columns = {
            Column.USERID: userid,
            Column.ITEMID: itemid,
            Column.RATING: read_numbers(content[names.rating], names.rating, table),
            Column.TIMESTAMP: content[names.timestamp],
            Column.EXTERNAL_USERID: external_userid,
            Column.EXTERNAL_ITEMID: external_itemid,
        }
        ratings = pa.table({name: column for name, column in columns.items() if column is not None})
        return with_seconds(ratings, file.name, table.fault)

    def _file(self, section: str, columns: Section, named: str | None) -> str | None:
        """The file of a section: that which it names, or the one that is there under the section's own name.

        Raises:
            DataError: it is not there, though the section is, or there are several.
        """
        there = [name for suffix in SUFFIXES if (self.folder / (name := section + suffix)).is_file()]
        if named:
            if not (self.folder / named).is_file():
                raise DataError(f"{self.folder / DESCRIPTION}: [{section}] file = {named!r} is not there: correct it.")
            return named
        if len(there) > 1:
            raise DataError(f"{self.folder} has {' and '.join(there)}: name one in {DESCRIPTION}, [{section}] file.")
        if not there and columns.model_fields_set:
            raise DataError(f"{self.folder / DESCRIPTION}: [{section}] needs its file: name it, as file = ….")
        return there[0] if there else None
