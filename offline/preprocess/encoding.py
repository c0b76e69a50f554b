"""Users, items and their categories as indices of the vocabularies; index 0 is unknown."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from data_exchange_center.arrays import Int32Array, Int64Array, UInt8Array
from data_exchange_center.columns import Column
from data_exchange_center.vocabularies import AGE_INDEX, GENDER_INDEX, GENRE_INDEX, OCCUPATION_INDEX, UNKNOWN

logger = logging.getLogger(__name__)


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


def user_table(users: pd.DataFrame, vocabulary: Int64Array) -> pa.Table:
    """Catalogue entry USERS from the users' columns; categories as text in MovieLens-1M's codes."""
    as_text = {
        name: {str(k): v for k, v in table.items()}
        for name, table in (
            (Column.GENDER, GENDER_INDEX),
            (Column.AGE, AGE_INDEX),
            (Column.OCCUPATION, OCCUPATION_INDEX),
        )
    }
    return pa.table(
        {
            Column.USERID: users[Column.USERID],
            Column.USER_INDEX: vocabulary_index(users[Column.USERID].to_numpy(), vocabulary),
            **{name: encode_categories(users[name], as_text[name], name) for name in as_text},
        }
    )


def item_table(movies: pd.DataFrame, vocabulary: Int64Array) -> pa.Table:
    """Catalogue entry ITEMS from the movies' columns; unknown genres are left out and counted."""
    genres = movies[Column.GENRES].explode()
    known = genres.isin(GENRE_INDEX)
    encode_categories(genres[genres.notna()], GENRE_INDEX, "genre")  # for its warning
    lists = genres[known].groupby(level=0).agg(list).reindex(movies.index)
    return pa.table(
        {
            Column.ITEMID: movies[Column.ITEMID],
            Column.ITEM_INDEX: vocabulary_index(movies[Column.ITEMID].to_numpy(), vocabulary),
            Column.TITLE: movies[Column.TITLE].fillna("").astype(str),
            Column.GENRES: pa.array([g if isinstance(g, list) else [] for g in lists], pa.list_(pa.string())),
        }
    )
