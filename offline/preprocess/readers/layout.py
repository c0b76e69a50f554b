"""What every reader declares: the files that its layout is recognised by, and how each is read.

`DataSource` is what the first stage reads, whatever layout the data come in.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import pandas as pd
import pyarrow as pa

from data_exchange_center.columns import Column
from data_exchange_center.dataset import MOVIELENS_SCALE, RatingScale
from data_exchange_center.vocabularies import MOVIELENS, Categories
from offline.preprocess.readers.text import DataError

logger = logging.getLogger(__name__)

Table = TypeVar("Table")
USER_COLUMNS = (Column.USERID, Column.GENDER, Column.AGE, Column.OCCUPATION)
ONLINE_ROWS = 10  # last rows of each user, kept for the online evaluation


class DataSource(Protocol):
    """A folder of raw data that can be read; a malformed file is a `DataError` in every method."""

    @property
    def folder(self) -> Path:
        """Where the files lie."""

    @property
    def files(self) -> list[Path]:
        """All files that are read."""

    @property
    def users_file(self) -> str | None:
        """The name of the file of users; None where there is none."""

    @property
    def movies_file(self) -> str | None:
        """The name of the file of items; None where there is none."""

    @property
    def scale(self) -> RatingScale:
        """What ratings there are, and which of them are positives."""

    @property
    def online_rows(self) -> int:
        """How many of each user's last rows are kept for the online evaluation."""

    @property
    def fixed_categories(self) -> Categories | None:
        """The categories where the layout fixes them; None where they follow from the data."""

    def ratings(self) -> pa.Table:
        """userid int64, itemid int64, rating float32 and timestamp int64 (seconds), in file order.

        Text ids stand in the columns EXTERNAL_USERID and EXTERNAL_ITEMID besides, as they came.
        """

    def movies(self) -> pd.DataFrame:
        """itemid int64, title, genres as lists of text, and a column for each other category of items."""

    def users(self) -> pd.DataFrame:
        """userid int64, and a column for each category of users."""


@dataclass(frozen=True)
class Layout:
    """One layout of raw data.

    Args:
        releases: the MovieLens releases that come in it, for a sentence.
        ratings, movies: names of its files, by which it is recognised.
        users: name of its file of users, which may be missing; None where the layout has none.
        read_ratings: see `RawData.ratings`; the others likewise.
    """

    releases: str
    ratings: str
    movies: str
    users: str | None
    read_ratings: Callable[[Path], pa.Table]
    read_movies: Callable[[Path], pd.DataFrame]
    read_users: Callable[[Path], pd.DataFrame] | None

    @property
    def required(self) -> tuple[str, str]:
        """The files without which there is no data set, the ratings last: their presence says that it is complete."""
        return self.movies, self.ratings


@dataclass(frozen=True)
class RawData:
    """A folder whose layout is known: a `DataSource`."""

    folder: Path
    layout: Layout
    scale: RatingScale = MOVIELENS_SCALE
    online_rows: int = ONLINE_ROWS
    fixed_categories: Categories | None = MOVIELENS

    @property
    def users_file(self) -> str | None:
        """The name of the file of users; None where there is none."""
        name = self.layout.users
        return name if name and (self.folder / name).is_file() else None

    @property
    def movies_file(self) -> str:
        """The name of the file of movies, which every layout has."""
        return self.layout.movies

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        names = (self.layout.ratings, self.users_file, self.layout.movies)
        return [self.folder / name for name in names if name]

    def ratings(self) -> pa.Table:
        """userid int64, itemid int64, rating float32 and timestamp int64 (seconds), in file order.

        Raises:
            DataError: a malformed line; so do the others.
        """
        return read_readable(self.layout.read_ratings, self.folder / self.layout.ratings)

    def movies(self) -> pd.DataFrame:
        """itemid int64, title, genres as lists of text."""
        return read_readable(self.layout.read_movies, self.folder / self.layout.movies)

    def users(self) -> pd.DataFrame:
        """userid int64; gender, age and occupation as text in MovieLens-1M's codes, so that an unknown one is counted.

        Without a file of users the table is empty, and a warning says so.
        """
        if self.layout.read_users is None or self.users_file is None:
            logger.warning("%s holds no users' file: gender, age and occupation are unknown (index 0).", self.folder)
            return pd.DataFrame({name: pd.Series(dtype=object) for name in USER_COLUMNS}).astype({Column.USERID: int})
        return read_readable(self.layout.read_users, self.folder / self.users_file)


def read_readable(reader: Callable[[Path], Table], file: Path) -> Table:
    """What `reader` reads from the file.

    Raises:
        DataError: the file cannot be read at all, or what the reader raises.
    """
    try:
        return reader(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}): see to its rights.") from error
