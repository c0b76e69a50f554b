"""CSV with headers, as in MovieLens-20M, 25M, 32M, latest and latest-small: half stars, no users.

    ratings.csv  userId,movieId,rating,timestamp
    movies.csv   movieId,title,genres                (a title with a comma in quotes; genres as Genre|Genre)

Other columns and other files (tags, links, genome) are left out.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from data_exchange_center.columns import Column
from offline.preprocess.readers.categories import genre_lists
from offline.preprocess.readers.layout import Layout
from offline.preprocess.readers.ratings import RatingsFormat, read_ratings
from offline.preprocess.readers.text import DataError, checked_header, read_fields, read_lines

MOVIES = ("movieId", "title", "genres")


def read_movies(file: Path) -> pd.DataFrame:
    """movies.csv: itemid int64, title, genres as lists of text.

    Raises:
        DataError: no header, a malformed line or an id that stands twice.
    """
    lines = read_lines(file)
    if not lines.texts:
        raise DataError(f"{file} is empty: its first line must name {','.join(MOVIES)}.")
    header = checked_header(file, lines.texts[0], MOVIES)
    body = replace(lines, texts=lines.texts[1:], first=2)
    movieid, title, genres = MOVIES
    fields = read_fields(body, header, ",", quoted=True)
    return pd.DataFrame(
        {
            Column.ITEMID: body.ids(fields[movieid], movieid),
            Column.TITLE: fields[title],
            Column.GENRES: genre_lists(fields[genres]),
        }
    )


LAYOUT = Layout(
    releases="ml-20m, ml-25m, ml-32m, ml-latest, ml-latest-small",
    ratings="ratings.csv",
    movies="movies.csv",
    users=None,
    read_ratings=partial(
        read_ratings, layout=RatingsFormat(("userId", "movieId", "rating", "timestamp"), ",", has_header=True)
    ),
    read_movies=read_movies,
    read_users=None,
)
