"""Fields between `::`, as in MovieLens-1M, and in MovieLens-10M, which has half stars and no users.

ratings.dat  UserID::MovieID::Rating::Timestamp
users.dat    UserID::Gender::Age::Occupation::Zip      (may be missing)
movies.dat   MovieID::Title::Genre|Genre
"""

from functools import partial
from pathlib import Path

import pandas as pd

from data_exchange_center.columns import Column
from offline.preprocess.readers.categories import genre_lists
from offline.preprocess.readers.layout import Layout
from offline.preprocess.readers.ratings import RatingsFormat, read_ratings
from offline.preprocess.readers.text import Lines, read_lines

USERS = "UserID::Gender::Age::Occupation::Zip"
MOVIES = "MovieID::Title::Genre|Genre"


def _matched(lines: Lines, pattern: str, layout: str) -> pd.DataFrame:
    """The named groups of `pattern`, matched on each whole line; the first line that does not match is an error."""
    fields = pd.Series(lines.texts, dtype=object).str.extract(f"^{pattern}$")
    wrong = fields.isna().any(axis=1).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise lines.fault(row, f"{len(lines.texts[row].split('::'))} fields are not {layout}")
    return fields


def read_users(file: Path) -> pd.DataFrame:
    """users.dat: userid int64; gender, age and occupation as text.

    Raises:
        DataError: a malformed line or a userid that stands twice.
    """
    lines = read_lines(file)
    users = _matched(
        lines,
        rf"(?P<{Column.USERID}>[^:]*)::(?P<{Column.GENDER}>[^:]*)::(?P<{Column.AGE}>[^:]*)"
        rf"::(?P<{Column.OCCUPATION}>[^:]*)::.*",
        f"{USERS}, without a colon but in the last",
    )
    return users.assign(**{Column.USERID: lines.ids(users[Column.USERID], Column.USERID)})


def read_movies(file: Path) -> pd.DataFrame:
    """movies.dat: itemid int64, title, genres as lists of text. A title may hold colons.

    Raises:
        DataError: a malformed line or an itemid that stands twice.
    """
    lines = read_lines(file)
    movies = _matched(
        lines,
        rf"(?P<{Column.ITEMID}>[^:]*)::(?P<{Column.TITLE}>.*)::(?P<{Column.GENRES}>[^:]*)",
        f"{MOVIES}, without a colon but in the title",
    )
    return movies.assign(
        **{
            Column.ITEMID: lines.ids(movies[Column.ITEMID], Column.ITEMID),
            Column.GENRES: genre_lists(movies[Column.GENRES]),
        }
    )


LAYOUT = Layout(
    releases="ml-1m, ml-10m",
    ratings="ratings.dat",
    movies="movies.dat",
    users="users.dat",
    read_ratings=partial(read_ratings, layout=RatingsFormat(("UserID", "MovieID", "Rating", "Timestamp"), "::")),
    read_movies=read_movies,
    read_users=read_users,
)
