"""What every reader declares: the files that its layout is recognised by, and how each is read."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa

from data_exchange_center.columns import Column
from offline.preprocess.readers.text import DataError

logger = logging.getLogger(__name__)

Table = TypeVar("Table")
USER_COLUMNS = (Column.USERID, Column.GENDER, Column.AGE, Column.OCCUPATION)


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
    """A folder whose layout is known."""

    folder: Path
    layout: Layout

    @property
    def users_file(self) -> str | None:
        """The name of the file of users; None where there is none."""
        name = self.layout.users
        return name if name and (self.folder / name).is_file() else None

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
        return _read(self.layout.read_ratings, self.folder / self.layout.ratings)

    def movies(self) -> pd.DataFrame:
        """itemid int64, title, genres as lists of text."""
        return _read(self.layout.read_movies, self.folder / self.layout.movies)

    def users(self) -> pd.DataFrame:
        """userid int64; gender, age and occupation as text in MovieLens-1M's codes, so that an unknown one is counted.

        Without a file of users the table is empty, and a warning says so.
        """
        if self.layout.read_users is None or self.users_file is None:
            logger.warning("%s holds no users' file: gender, age and occupation are unknown (index 0).", self.folder)
            return pd.DataFrame({name: pd.Series(dtype=object) for name in USER_COLUMNS}).astype({Column.USERID: int})
        return _read(self.layout.read_users, self.folder / self.users_file)


def _read(reader: Callable[[Path], Table], file: Path) -> Table:
    try:
        return reader(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}): see to its rights.") from error
