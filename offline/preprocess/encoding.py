"""Users, items and their categories as indices of the vocabularies; index 0 is unknown."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from data_exchange_center.arrays import Int32Array, Int64Array, UInt8Array
from data_exchange_center.columns import Column
from data_exchange_center.vocabularies import UNKNOWN, Categories, indices

logger = logging.getLogger(__name__)

# An own table may have more. Each category is a value of 8 bits, and each genre is three of the model's features.
MOST_CATEGORIES, MOST_GENRES = 255, 64
EXTERNAL = {Column.USERID: Column.EXTERNAL_USERID, Column.ITEMID: Column.EXTERNAL_ITEMID}
NO_GENRES = ("unlisted",)  # the vocabulary where items have no genres: no item has this one


def vocabulary_index(ids: Int64Array, vocabulary: Int64Array) -> Int32Array:
    """[n] place of each id in the sorted vocabulary, from 1; 0 for an id that is not in it."""
    if len(vocabulary) == 0:
        return np.zeros(len(ids), np.int32)
    place = np.searchsorted(vocabulary, ids)
    known = vocabulary[np.minimum(place, len(vocabulary) - 1)] == ids
    return np.where(known, place + 1, UNKNOWN).astype(np.int32)


def encode_categories(values: pd.Series, indices: Mapping[Any, int], what: str) -> UInt8Array:
    """[n] index of each category; missing ones become 0, and so do unknown ones, which are counted in a warning."""
    encoded = values.map(indices)
    unknown = values[encoded.isna() & values.notna()]
    if len(unknown):
        examples = ", ".join(sorted(set(unknown.astype(str)))[:3])
        logger.warning("%d unknown values of %s (%s) are taken as index 0.", len(unknown), what, examples)
    return np.asarray(encoded.fillna(UNKNOWN), np.uint8)


def add_missing(table: pd.DataFrame, key: str, ids: Int64Array, file: str | None) -> pd.DataFrame:
    """The table with an empty row for each id that occurs in the ratings alone, sorted by id.

    Args:
        ids: those of the ratings.
        file: what the table was read from, for a warning; None where there is no such file.
    """
    missing = np.setdiff1d(ids, table[key].to_numpy())
    if len(missing) and file:
        logger.warning("%d ids of the ratings are not in %s: their features are unknown.", len(missing), file)
    return table.set_index(key).reindex(np.union1d(table[key].to_numpy(), ids)).rename_axis(key).reset_index()


def external_ids(ratings: pa.Table) -> dict[str, pd.Series]:
    """By userid and itemid, where those are text: the text of each id that occurs.

    Args:
        ratings: n rows that may hold the text besides, as a dictionary.
    """
    texts = {}
    for key, external in EXTERNAL.items():
        if external in ratings.column_names:
            coded = ratings[external].unify_dictionaries().combine_chunks()
            ids = np.empty(len(coded.dictionary), np.int64)
            ids[coded.indices.to_numpy()] = ratings[key].to_numpy()
            texts[key] = pd.Series(coded.dictionary.to_pylist(), ids)
    return texts


def with_external_ids(table: pd.DataFrame, key: str, texts: Mapping[str, pd.Series]) -> pd.DataFrame:
    """The table, its ids as they came known of those, too, that only the ratings hold; nothing where ids are integers.

    Args:
        key: name of the column of the ids.
        texts: see `external_ids`.
    """
    if key not in texts:
        return table
    external = EXTERNAL[key]
    own = table[external] if external in table else pd.Series(index=table.index, dtype=object)
    return table.assign(**{external: own.fillna(table[key].map(texts[key]))})


def with_titles(movies: pd.DataFrame) -> pd.DataFrame:
    """The items, the id as it came standing for a title that is missing."""
    ids = movies[Column.EXTERNAL_ITEMID if Column.EXTERNAL_ITEMID in movies else Column.ITEMID]
    return movies.assign(**{Column.TITLE: movies[Column.TITLE].fillna(ids.astype(str))})


def _commonest(values: pd.Series, most: int, what: str) -> tuple[str, ...]:
    """The categories in alphabetical order; only the commonest where there are more than `most`."""
    counts = values.dropna().value_counts()
    if len(counts) > most:
        logger.warning(
            "%s has %d different values: the %d commonest are categories, the others unknown.", what, len(counts), most
        )
        counts = counts.sort_index().sort_values(ascending=False, kind="stable").head(most)
    return tuple(sorted(counts.index))


def categories_of(users: pd.DataFrame, movies: pd.DataFrame) -> Categories:
    """The categories that an own table has.

    Args:
        users: a column of text for each category but the ids.
        movies: likewise, beside title and genres.
    """
    own = {Column.USERID, Column.EXTERNAL_USERID, Column.ITEMID, Column.EXTERNAL_ITEMID, Column.TITLE, Column.GENRES}
    genres = _commonest(movies[Column.GENRES].explode(), MOST_GENRES, Column.GENRES)
    user, item = (
        {name: _commonest(table[name], MOST_CATEGORIES, name) for name in table.columns if name not in own}
        for table in (users, movies)
    )
    return Categories(genres or NO_GENRES, user, item)


def user_table(users: pd.DataFrame, vocabulary: Int64Array, categories: Mapping[str, tuple[str, ...]]) -> pa.Table:
    """Catalogue entry USERS from the users' columns, the categories as text."""
    return pa.table(
        {
            Column.USERID: users[Column.USERID],
            Column.USER_INDEX: vocabulary_index(users[Column.USERID].to_numpy(), vocabulary),
            **_encoded(users, categories),
            **_external(users, Column.EXTERNAL_USERID),
        }
    )


def item_table(movies: pd.DataFrame, vocabulary: Int64Array, categories: Categories) -> pa.Table:
    """Catalogue entry ITEMS from the movies' columns; unknown genres are left out and counted."""
    genres = movies[Column.GENRES].explode()
    index = indices(categories.genres)
    encode_categories(genres[genres.notna()], index, "genre")  # for its warning
    lists = genres[genres.isin(index)].groupby(level=0).agg(list).reindex(movies.index)
    return pa.table(
        {
            Column.ITEMID: movies[Column.ITEMID],
            Column.ITEM_INDEX: vocabulary_index(movies[Column.ITEMID].to_numpy(), vocabulary),
            Column.TITLE: movies[Column.TITLE].fillna("").astype(str),
            Column.GENRES: pa.array([g if isinstance(g, list) else [] for g in lists], pa.list_(pa.string())),
            **_encoded(movies, categories.item),
            **_external(movies, Column.EXTERNAL_ITEMID),
        }
    )


def _encoded(table: pd.DataFrame, categories: Mapping[str, tuple[str, ...]]) -> dict[str, UInt8Array]:
    return {name: encode_categories(table[name], indices(values), name) for name, values in categories.items()}


def _external(table: pd.DataFrame, name: str) -> dict[str, pd.Series]:
    return {name: table[name]} if name in table else {}
