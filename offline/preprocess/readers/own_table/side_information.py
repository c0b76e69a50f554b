"""What a table of one's own says of users and items: categories, titles, and genres, of which an item has several."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data_exchange_center.columns import Column
from data_exchange_center.vocabularies import slugs
from offline.preprocess.readers.own_table.description import ItemsColumns
from offline.preprocess.readers.own_table.table_file import TableFile, check_columns
from offline.preprocess.readers.own_table.values import as_texts, read_ids


def columns_of(names: Sequence[str], prefix: str) -> dict[str, str]:
    """The column of each category's name: `country` → `user_country`.

    Args:
        prefix: user or item. `user_index` is taken, so that the category `index` is `user_index_column`.
    """
    free = [f"{name} column" if slugs([name]) == ("index",) else name for name in names]
    return {name: f"{prefix}_{slug}" for name, slug in zip(names, slugs(free), strict=True)}


def other_columns(table: TableFile, taken: Sequence[str]) -> list[str]:
    """All columns but those taken, and but the index that pandas writes: without a name, or __index_level_0__."""
    return [name for name in table.names if name and name not in taken and not name.startswith("__index_level_")]


def read_users(table: TableFile, userid: str, categories: Sequence[str] | None, as_text: bool) -> pd.DataFrame:
    """userid int64, external_userid where ids are text, and a column of text for each category, None for none.

    Args:
        userid: the column of ids.
        categories: the columns of categories; None: all others.
        as_text: whether the ratings have text ids.

    Raises:
        DataError: the file is malformed, or an id stands twice or is of another kind than those of the ratings.
    """
    names = other_columns(table, [userid]) if categories is None else list(categories)
    check_columns(table, names)
    content = table.read(list(dict.fromkeys([userid, *names])))
    columns = _ids(content, userid, table, as_text, (Column.USERID, Column.EXTERNAL_USERID))
    columns |= {column: as_texts(content[name], name, table) for name, column in columns_of(names, "user").items()}
    return pa.table(columns).to_pandas()


def read_items(table: TableFile, itemid: str, description: ItemsColumns, as_text: bool) -> pd.DataFrame:
    """itemid int64, external_itemid where ids are text, title, genres as lists of text, a column for each category.

    Args:
        itemid: the column of ids.
        as_text: whether the ratings have text ids.

    Raises:
        DataError: as `read_users`.
    """
    title, genres = (name if name in table.names else None for name in (description.title, description.genres))
    read = [name for name in (itemid, title, genres) if name]
    categories = description.categories
    names = other_columns(table, read) if categories is None else list(categories)
    check_columns(table, [*read, *names])
    content = table.read(list(dict.fromkeys([*read, *names])))
    columns = _ids(content, itemid, table, as_text, (Column.ITEMID, Column.EXTERNAL_ITEMID))
    ids = pc.cast(columns.get(Column.EXTERNAL_ITEMID, columns[Column.ITEMID]), pa.string())
    columns[Column.TITLE] = pc.coalesce(as_texts(content[title], title, table), ids) if title else ids
    columns |= {column: as_texts(content[name], name, table) for name, column in columns_of(names, "item").items()}
    frame: pd.DataFrame = pa.table(columns).to_pandas()
    lists = _lists(content[genres], genres, table, description.separator) if genres else [[] for _ in range(len(frame))]
    frame.insert(
        list(frame.columns).index(Column.TITLE) + 1, Column.GENRES, pd.Series(lists, frame.index, dtype=object)
    )
    return frame


def empty(*names: str) -> pd.DataFrame:
    """No row of these columns, the first of which holds ids."""
    return pd.DataFrame({name: pd.Series(dtype=object) for name in names}).astype({names[0]: np.int64})


def _ids(
    content: pa.Table, name: str, table: TableFile, as_text: bool, columns: tuple[str, str]
) -> dict[str, pa.Array]:
    """The column of integers, and that of texts where there are such; each id once."""
    ids, texts = read_ids(content[name], name, table, as_text)
    again = pd.Series(ids.to_numpy()).duplicated().to_numpy()
    if again.any():
        row = int(again.argmax())
        raise table.fault(row, f"{name} {content[name][row].as_py()!r} stands twice, and each id has one row")
    return {columns[0]: ids} | ({} if texts is None else {columns[1]: texts.dictionary_decode()})


def _lists(column: pa.ChunkedArray, name: str, table: TableFile, separator: str) -> list[list[str]]:
    """The genres of each row, in their order, each once, without blanks around them."""
    lists = column.combine_chunks()
    if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
        lists = pc.split_pattern(as_texts(column, name, table), separator)
    rows, values = pc.list_parent_indices(lists), pc.list_flatten(lists)
    texts = pc.utf8_trim_whitespace(as_texts(pa.chunked_array([values]), name, table))
    flat = pd.DataFrame({"row": rows.to_numpy(), "genre": texts.to_pandas()})
    flat = flat[flat["genre"].notna() & (flat["genre"] != "")].drop_duplicates()
    ends = np.cumsum(np.bincount(flat["row"], minlength=len(lists)))
    genres = pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), pa.array(flat["genre"], pa.string()))
    found: list[list[str]] = genres.to_pylist()
    return found
