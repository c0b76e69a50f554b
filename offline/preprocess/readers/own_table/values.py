"""Columns of a table of one's own as ids, as numbers and as categories, whatever type the file gave them.

Rules are checked on the distinct values, of which a hundred million rows have few.
"""

import logging
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_exchange_center.arrays import BoolArray, Int64Array
from data_exchange_center.external_ids import LONGEST_ID, internal_id
from data_exchange_center.limits import LARGEST_ID
from offline.preprocess.readers.own_table.table_file import TableFile
from offline.preprocess.readers.text import DataError

logger = logging.getLogger(__name__)

WHOLE = rf"\A[1-9][0-9]{{0,{len(str(LARGEST_ID)) - 1}}}\z"
MOSTLY = 0.5  # share of integers from which a text among them is told of
IDS = f"a whole number from 1 to {LARGEST_ID}"


def read_ids(
    column: pa.ChunkedArray, name: str, table: TableFile, as_text: bool | None = None
) -> tuple[pa.Array, pa.DictionaryArray | None]:
    """The ids of all rows.

    Args:
        name: the column's, for a sentence.
        as_text: True where other files have text ids, False where they have integers; None: told by the values.

    Returns:
        ids [n] int64; the texts [n] as they came, None where all are plainly written integers from 1 to LARGEST_ID.

    Raises:
        DataError: an id is missing, empty, too long or has a control character; it is text where it must not be; two
            texts are carried as one integer.
    """
    places, values = _distinct(column, name, table)
    kind = values.type
    if pa.types.is_floating(kind):
        numbers = values.to_numpy(zero_copy_only=False)
        exact = min(LARGEST_ID, 2 ** (np.finfo(numbers.dtype).nmant + 1) - 1)  # beyond it, these floats have gaps
        is_whole = (numbers == np.floor(numbers)) & (np.abs(numbers) <= exact)
        _refuse(~is_whole, places, values, table, name, f"is no whole number up to {exact}, as {kind} holds them")
        values = pc.cast(values, pa.int64(), safe=False)
    elif kind == pa.binary(16):
        values = pa.array([str(uuid.UUID(bytes=value)) for value in values.to_pylist()], pa.string())
    elif not (pa.types.is_integer(kind) or _is_text(kind)):
        raise DataError(f"{table.file}: the column {name!r} holds {kind}, which is no id: write integers or texts.")
    texts = pc.cast(values, pa.string())
    plain = pc.match_substring_regex(texts, WHOLE).to_numpy(zero_copy_only=False)
    numbers = np.zeros(len(texts), np.int64)
    numbers[plain] = pc.cast(texts.filter(pa.array(plain)), pa.int64()).to_numpy(zero_copy_only=False)
    is_number: BoolArray = plain & (numbers <= LARGEST_ID)
    if as_text is None:
        as_text = not is_number.all()
        if as_text and is_number.mean() > MOSTLY:
            row = int((~is_number)[places].argmax())
            logger.warning(
                "%s: %s is text, since %r in row %d is not %s, as most are.",
                table.file.name,
                name,
                texts[int(places[row])].as_py(),
                row + 1,
                IDS,
            )
    if not as_text:
        _refuse(~is_number, places, texts, table, name, f"is not {IDS}, as the ids of the ratings are")
        return pa.array(numbers[places]), None
    length = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    _refuse(length == 0, places, texts, table, name, "is empty")
    _refuse(length > LONGEST_ID, places, texts, table, name, f"is longer than {LONGEST_ID} characters")
    control = pc.match_substring_regex(texts, r"\p{Cc}").to_numpy(zero_copy_only=False)
    _refuse(control, places, texts, table, name, "holds a control character")
    hashes = _internal_ids(texts, table)
    return pa.array(hashes[places]), pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), texts)


def read_numbers(column: pa.ChunkedArray, name: str, table: TableFile) -> pa.Array:
    """[n] finite float32.

    Raises:
        DataError: a value is missing or no finite number.
    """
    places, values = _distinct(column, name, table)
    kind = values.type
    if _is_text(kind):
        texts = pc.cast(values, pa.string())
        is_number = pc.match_substring_regex(texts, r"(?i)\A[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\z")
        _refuse(~is_number.to_numpy(zero_copy_only=False), places, texts, table, name, "is no number")
        values = pc.cast(pc.replace_substring_regex(texts, r"\A\+", ""), pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        if not pa.types.is_decimal(kind):
            raise DataError(f"{table.file}: the column {name!r} holds {kind}, and no numbers: name another.")
    numbers = pc.cast(values, pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    _refuse(~np.isfinite(numbers), places, values, table, name, "is no finite number of single precision")
    return pa.array(numbers[places])


def check_present(column: pa.ChunkedArray, name: str, table: TableFile) -> None:
    """Checks that no value is missing.

    Raises:
        DataError: one is; the message names the first.
    """
    if column.null_count:
        raise table.fault(int(np.asarray(pc.is_null(column)).argmax()), f"{name} is missing")


def as_texts(column: pa.ChunkedArray, name: str, table: TableFile) -> pa.Array:
    """[n] categories as text, null where there is none: whole numbers without a point, truth as true and false.

    Raises:
        DataError: the column's type has no text.
    """
    column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        texts = pc.cast(column, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{table.file}: the column {name!r} holds {kind}, which is no category: name those that are one as "
            "categories in dataset.toml, without it."
        ) from error
    texts = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _distinct(column: pa.ChunkedArray, name: str, table: TableFile) -> tuple[Int64Array, pa.Array]:
    """Of each row the place of its value, and the distinct values that occur.

    Raises:
        DataError: a value is missing, or the column is one of lists or structs.
    """
    check_present(column, name, table)
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
    if pa.types.is_nested(kind):
        raise DataError(f"{table.file}: the column {name!r} holds {kind} and not one value a row: name another.")
    coded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    places = coded.indices.to_numpy(zero_copy_only=False)
    is_used = np.zeros(len(coded.dictionary), bool)  # a dictionary may be that of a longer table
    is_used[places] = True
    values = coded.dictionary.filter(pa.array(is_used)).dictionary_encode()  # or hold a value twice
    return values.indices.to_numpy(zero_copy_only=False)[(np.cumsum(is_used) - 1)[places]], values.dictionary


def _refuse(wrong: BoolArray, places: Int64Array, values: pa.Array, table: TableFile, name: str, rule: str) -> None:
    """Raises the fault of the first row whose value is wrong, if any is."""
    if wrong.any():
        row = int(wrong[places].argmax())
        raise table.fault(row, f"{name} {values[int(places[row])].as_py()!r} {rule}")


def _internal_ids(texts: pa.Array, table: TableFile) -> Int64Array:
    """[distinct] the integer of each text."""
    hashes = np.fromiter(map(internal_id, texts.to_pylist()), np.int64, len(texts))
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    if len(same):
        one, other = (texts[int(order[same[0] + step])].as_py() for step in (0, 1))
        raise DataError(f"{table.file}: the ids {one!r} and {other!r} have one digest: rename one of them everywhere.")
    return hashes


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
