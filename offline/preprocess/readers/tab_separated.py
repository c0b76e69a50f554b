"""MovieLens-100K's own layout: tabs and pipes, real ages, named occupations, a column of flags for each genre.

u.data  user id <tab> item id <tab> rating <tab> timestamp
u.user  user id|age|gender|occupation|zip code                                     (may be missing)
u.item  movie id|title|release date|video release date|IMDb URL|unknown|Action|…   (19 flags)
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from data_exchange_center.columns import Column
from data_exchange_center.vocabularies import GENRES
from offline.preprocess.readers.categories import age_groups, genre_lists, occupation_codes
from offline.preprocess.readers.layout import Layout
from offline.preprocess.readers.ratings import RatingsFormat, read_ratings
from offline.preprocess.readers.text import read_fields, read_lines

USERS = ("user id", "age", "gender", "occupation", "zip code")
# Its genres are MovieLens-1M's in the same order, after a flag that says that none is known.
FLAGS = ("unknown", *GENRES)
MOVIES = ("movie id", "title", "release date", "video release date", "IMDb URL", *FLAGS)


def read_users(file: Path) -> pd.DataFrame:
    """u.user: userid int64; gender, age group and occupation as text, in MovieLens-1M's codes.

    Raises:
        DataError: a malformed line or an id that stands twice.
    """
    lines = read_lines(file)
    fields = read_fields(lines, USERS, "|", quoted=False)
    userid, age, gender, occupation, _ = (fields[name] for name in USERS)
    return pd.DataFrame(
        {
            Column.USERID: lines.ids(userid, USERS[0]),
            Column.GENDER: gender,
            Column.AGE: age_groups(age),
            Column.OCCUPATION: occupation_codes(occupation, age),
        }
    )


def read_movies(file: Path) -> pd.DataFrame:
    """u.item: itemid int64, title, genres as lists of text.

    Raises:
        DataError: a malformed line, an id that stands twice, or a flag that is neither 0 nor 1.
    """
    lines = read_lines(file)
    fields = read_fields(lines, MOVIES, "|", quoted=False)
    itemid = lines.ids(fields[MOVIES[0]], MOVIES[0])
    wrong = ~fields[list(FLAGS)].isin(["0", "1"]).all(axis=1).to_numpy()
    if wrong.any():
        raise lines.fault(int(wrong.argmax()), "a genre's flag is neither 0 nor 1")
    genres = pd.Series("", index=fields.index, dtype=object)
    for genre in GENRES:
        genres = genres + np.where(fields[genre] == "1", f"|{genre}", "")
    return pd.DataFrame(
        {
            Column.ITEMID: itemid,
            Column.TITLE: fields["title"],
            Column.GENRES: genre_lists(genres.str.removeprefix("|")),
        }
    )


LAYOUT = Layout(
    releases="ml-100k",
    ratings="u.data",
    movies="u.item",
    users="u.user",
    read_ratings=partial(read_ratings, layout=RatingsFormat(("user id", "item id", "rating", "timestamp"), "\t")),
    read_movies=read_movies,
    read_users=read_users,
)
