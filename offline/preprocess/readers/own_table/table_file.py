"""Tables of one's own, CSV or parquet, behind one face: the columns' names, whole columns, and the fault of a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet

from offline.preprocess.readers.own_table.csv_file import open_csv
from offline.preprocess.readers.text import DataError

SHOWN = 40  # columns, and characters of each, in a sentence


class TableFile(Protocol):
    """A file with named columns."""

    @property
    def file(self) -> Path:
        """Where it lies."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns in their order."""

    def read(self, names: Sequence[str], repeated: Sequence[str] = ()) -> pa.Table:
        """These columns, as the file has them.

        Args:
            repeated: those whose values repeat: their texts may come as dictionaries, which hold each once.

        Raises:
            DataError: the file is malformed.
        """

    def fault(self, row: int, rule: str) -> DataError:
        """The error of a row, counted from 0, that breaks a rule."""


@dataclass(frozen=True)
class ParquetTable:
    """A parquet file."""

    file: Path
    schema: pa.Schema

    @property
    def names(self) -> tuple[str, ...]:
        """The columns in their order."""
        return tuple(self.schema.names)

    def read(self, names: Sequence[str], repeated: Sequence[str] = ()) -> pa.Table:
        """These columns."""
        texts = [name for name in repeated if pa.types.is_string(self.schema.field(name).type)]
        try:
            with pyarrow.parquet.ParquetFile(self.file, read_dictionary=texts) as content:
                table = content.read(columns=list(names)).select(list(names))
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(self.file, error) from error
        # Views are a newer kind of text, for which Arrow lacks some functions.
        plain = [pa.string() if pa.types.is_string_view(field.type) else field.type for field in table.schema]
        return table.cast(pa.schema(zip(table.column_names, plain, strict=True)))

    def fault(self, row: int, rule: str) -> DataError:
        """The error of a row."""
        return DataError(f"{self.file}, row {row + 1}: {rule}: correct it or take it out.")


def open_table(file: Path, required: Sequence[str]) -> TableFile:
    """The table in a file, told by the ending of its name.

    Args:
        required: columns that must be there.

    Raises:
        DataError: the file cannot be read, is empty, or has not each required column once.
    """
    table: TableFile
    if file.suffix.lower() != ".parquet":
        table = open_csv(file, required)
    else:
        try:
            table = ParquetTable(file, pyarrow.parquet.read_schema(file))
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(file, error) from error
    check_columns(table, required)
    return table


def check_columns(table: TableFile, required: Sequence[str]) -> None:
    """Checks that the table has each of these columns once.

    Raises:
        DataError: it has one not at all, or twice.
    """
    for name in required:
        if (count := table.names.count(name)) != 1:
            if count:
                raise DataError(f"{table.file} has {count} columns {name!r}: give each of them a name of its own.")
            there = ", ".join(repr(name[:SHOWN]) for name in table.names[:SHOWN])
            remedy = "name the right one in dataset.toml, and put a comma, a semicolon or a tab between two columns"
            raise DataError(f"{table.file} has no column {name!r}. Its columns are {there}: {remedy}.")


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} cannot be read as parquet ({error}): write it again.")
