"""How a table lies on disk: as one parquet file, or as a folder of parts, which is how a cluster writes it.

A file says in its footer what it is: the digest of its rows, their order, and the rows that they belong to. A folder
says it in a manifest beside the parts. Whoever loads a table does not see the difference.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_exchange_center.digests import BLOCK_ROWS, combined_digest, table_digest

MANIFEST = "_manifest.json"  # an underscore in front: Spark and Arrow take it for no part
DIGEST, SORTED_BY, ALIGNED_WITH = "recsys.digest", "recsys.sorted_by", "recsys.aligned_with"
Metadata = dict[str, str]
Task = TypeVar("Task")
Result = TypeVar("Result")


class Parts(Protocol):
    """Rows that are too many for one process: what a stage saves in place of a table when an engine has made them."""

    def write(self, folder: Path, schema: pa.Schema) -> None:
        """Writes the rows as parquet files into the folder, each of which holds a range of their order.

        Args:
            schema: the declared one; a type that the engine does not have may be a wider one.
        """

    def each(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """The function's result for each task, computed where the engine computes."""


@dataclass(frozen=True)
class StoredTable:
    """A table on disk.

    Attributes:
        files: in the order of their rows.
        ends: for each file, how many rows it and those before it hold.
        schema: of the first file.
        metadata: what the table says of itself.
    """

    files: tuple[Path, ...]
    ends: tuple[int, ...]
    schema: pa.Schema
    metadata: Metadata
    is_folder: bool

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.ends[-1] if self.ends else 0

    def fits(self, schema: pa.Schema) -> bool:
        """Whether it can be read as the schema: Spark has no unsigned integers, so that parts hold wider ones."""
        if self.is_folder:
            return not self.files or self.schema.names == schema.names
        return bool(self.schema.equals(schema))

    def read(self, schema: pa.Schema) -> pa.Table:
        """The columns of the schema, all rows.

        Raises:
            pa.ArrowInvalid: a file is unreadable, or a value does not fit the schema's type.
        """
        return _as_schema([_columns(file, schema.names) for file in self.files], schema)

    def read_rows(self, start: int, end: int, schema: pa.Schema) -> pa.Table:
        """The columns of the schema, the rows of [start, end), read from the row groups that hold them.

        Raises:
            pa.ArrowInvalid: as in `read`.
        """
        tables, first = [], bisect_right(self.ends, start)
        for place in range(first, len(self.files)):
            begin = self.ends[place - 1] if place else 0
            if begin >= end:
                break
            tables.append(_rows_of_file(self.files[place], max(start - begin, 0), end - begin, schema.names))
        return _as_schema(tables, schema)


def _as_schema(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([table.cast(schema) for table in tables]) if tables else schema.empty_table()


def _columns(file: Path, names: list[str]) -> pa.Table:
    with pq.ParquetFile(file) as parquet:  # not read_table, which imports pandas: the server is free of it
        return parquet.read(names).replace_schema_metadata(None)


def _rows_of_file(file: Path, start: int, end: int, names: list[str]) -> pa.Table:
    with pq.ParquetFile(file) as parquet:
        groups, passed, before = [], 0, 0
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if passed + rows <= start:
                before = passed + rows
            elif passed < end:
                groups.append(group)
            passed += rows
        table = parquet.read_row_groups(groups, names) if groups else parquet.schema_arrow.empty_table().select(names)
    return table.slice(start - before, end - start).replace_schema_metadata(None)


def open_stored(place: Path) -> StoredTable:
    """The table of a file, or of a folder with its manifest.

    Raises:
        pa.ArrowInvalid: a file is no parquet.
        FileNotFoundError: a folder lacks its manifest, or a part.
    """
    if place.is_dir():
        manifest = json.loads((place / MANIFEST).read_text("utf-8"))
        stored = _open_folder(place, manifest["metadata"])
        if stored.rows != manifest["rows"]:
            raise FileNotFoundError(f"a part is missing: there are {stored.rows} rows of {manifest['rows']}")
        return stored
    with pq.ParquetFile(place) as parquet:
        metadata = {name.decode(): text.decode() for name, text in (parquet.schema_arrow.metadata or {}).items()}
        return StoredTable((place,), (parquet.metadata.num_rows,), parquet.schema_arrow, metadata, is_folder=False)


def _open_folder(folder: Path, metadata: Metadata) -> StoredTable:
    files: list[Path] = []
    ends: list[int] = []
    schema = pa.schema([])
    for file in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(file) as parquet:
            schema = schema if files else parquet.schema_arrow
            files.append(file)
            ends.append(parquet.metadata.num_rows + (ends[-1] if ends else 0))
    return StoredTable(tuple(files), tuple(ends), schema, metadata, is_folder=True)


@dataclass(frozen=True)
class Block:
    """Rows of a stored table that one task checks: [start, end), against the declaration."""

    stored: StoredTable
    start: int
    end: int
    schema: pa.Schema
    sorted_by: tuple[str, ...]
    unique: bool
    aligned_with: StoredTable | None


@dataclass(frozen=True)
class CheckedBlock:
    """What was found: whether the rows ascend, which key differs from the rows that they belong to, their digest."""

    ascends: bool
    other_key: str | None
    digest: str


def check_block(block: Block) -> CheckedBlock:
    """Reads and checks a block, and the row before it, which must precede it in the order."""
    before = min(block.start, 1)
    table = block.stored.read_rows(block.start - before, block.end, block.schema)
    in_order = ascends([table[name] for name in block.sorted_by], block.unique)
    table = table.slice(before)
    other_key = None
    if block.aligned_with:
        keys = pa.schema([block.schema.field(name) for name in block.sorted_by])
        root = block.aligned_with.read_rows(block.start, block.end, keys)
        other_key = next((name for name in keys.names if not table[name].equals(root[name])), None)
    return CheckedBlock(in_order, other_key, table_digest(table))


def write_parts(folder: Path, parts: Parts, schema: pa.Schema, key: str) -> StoredTable:
    """Has the parts write themselves, and names them by the order of their rows, so that names and rows agree.

    Args:
        key: the column that each part holds a range of.
    """
    parts.write(folder, schema)
    for left in folder.glob("[._]*"):
        left.unlink()  # Spark's own checksums and mark of success, which no longer go with what is renamed
    firsts = {}
    for file in folder.glob("*.parquet"):
        with pq.ParquetFile(file) as parquet:
            groups, column = parquet.metadata, parquet.schema_arrow.names.index(key)
            if groups.num_rows:
                firsts[file] = groups.row_group(0).column(column).statistics.min
            else:
                file.unlink()  # Spark writes a part for an empty partition, too
    for place, file in enumerate(sorted(firsts, key=firsts.__getitem__)):
        file.rename(folder / f"part-{place:05}.parquet")
    return _open_folder(folder, {})


def write_manifest(folder: Path, rows: int, metadata: Metadata) -> None:
    """Makes a folder of parts a table."""
    (folder / MANIFEST).write_text(json.dumps({"rows": rows, "metadata": metadata}, indent=1), "utf-8")


def check_parts(
    stored: StoredTable,
    parts: Parts,
    schema: pa.Schema,
    sorted_by: tuple[str, ...],
    unique: bool,
    aligned_with: StoredTable | None,
) -> tuple[list[CheckedBlock], str]:
    """All blocks, checked where the engine computes, and the digest of the whole, which no border of a part changes."""
    blocks = [
        Block(stored, start, min(start + BLOCK_ROWS, stored.rows), schema, sorted_by, unique, aligned_with)
        for start in range(0, stored.rows, BLOCK_ROWS)
    ]
    checked = parts.each(check_block, blocks)
    return checked, combined_digest([block.digest for block in checked])


def ascends(columns: list[pa.ChunkedArray], strictly: bool) -> bool:
    """Whether rows ascend lexicographically by the columns."""
    length = len(columns[0])
    if length < 2:
        return True
    # All in Arrow: its arrays reach numpy through a module that imports pandas, and the server is free of it.
    undecided = None  # whether row i and row i + 1 agree in all columns so far
    for column in columns:
        values = column.combine_chunks()
        before, after = values.slice(0, length - 1), values.slice(1)
        greater, equal = pc.greater(before, after), pc.equal(before, after)
        if pc.any(greater if undecided is None else pc.and_(undecided, greater)).as_py():
            return False
        undecided = equal if undecided is None else pc.and_(undecided, equal)
    return not (strictly and pc.any(undecided).as_py())
