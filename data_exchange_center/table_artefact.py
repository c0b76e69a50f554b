"""Tables as artefacts: a declared schema, an order, and the rows of another table that the rows belong to.

A table carries, beside its rows, the columns that it is sorted by, a digest of its content and, where its rows belong
to the rows of another table, the digest of that table. `load` checks all of them, so that a shuffled or a stale table
is refused with a sentence instead of being joined row by row to the wrong rows.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_exchange_center.artefact import Artefact, ArtefactError
from data_exchange_center.digests import table_digest
from data_exchange_center.stored_table import (
    ALIGNED_WITH,
    DIGEST,
    SORTED_BY,
    Parts,
    StoredTable,
    ascends,
    check_parts,
    open_stored,
    write_manifest,
    write_parts,
)

ROW_GROUP = 1 << 18  # rows, the least that is decoded at a time
GROUP_BYTES = 64 << 20  # of a row group at most, before they are compressed: lists may make fewer rows of it


@dataclass(frozen=True, eq=False)
class Table(Artefact[pa.Table | Parts]):
    """Rows of a declared schema, in one parquet file or in a folder of parts (stored_table.py).

    Attributes:
        schema: names and types of the columns, in order; a function where they depend on the data set.
        sorted_by: columns by which the rows ascend.
        unique: whether no two rows agree in all of `sorted_by`.
        aligned_with: the table to whose rows this table's rows belong, one to one and in the same order.
    """

    schema: pa.Schema | Callable[[], pa.Schema]
    sorted_by: tuple[str, ...] = ()
    unique: bool = True
    aligned_with: "Table | None" = None

    @property
    def present_schema(self) -> pa.Schema:
        """The schema for the present data set.

        Raises:
            ArtefactError: it depends on the data set, and there is none.
        """
        return self.schema if isinstance(self.schema, pa.Schema) else self.schema()

    def load(self, columns: Sequence[str] | None = None, rows: tuple[int, int] | None = None) -> pa.Table:
        """The table, or some of its columns, or some of its rows.

        Args:
            columns: all unless given.
            rows: the first one and the one after the last, all unless given; row groups without them are not read.

        Raises:
            ArtefactError: the file is missing, unreadable, has another schema, is out of order (within the rows that
                are read), or belongs to rows that have been replaced since.
        """
        place, schema = self.existing_file(), self.present_schema
        names = schema.names if columns is None else list(columns)
        read = pa.schema([schema.field(name) for name in dict.fromkeys([*names, *self.sorted_by])])
        try:
            stored = open_stored(place)
            if not stored.fits(schema):
                raise ArtefactError(f"{place} has another schema than the catalogue: run {self.writer} again.")
            table = stored.read(read) if rows is None else stored.read_rows(*rows, read)
        except (pa.ArrowInvalid, FileNotFoundError, json.JSONDecodeError) as error:
            raise ArtefactError(f"{place} is no readable parquet ({error}): run {self.writer} again.") from error
        self._check_order(table, str(place))
        self._check_alignment(stored, place)
        return table.select(names)

    def stored(self) -> StoredTable:
        """The table on disk, as it is."""
        return open_stored(self.existing_file())

    def digest(self) -> tuple[str, int]:
        """The digest of the stored content, and how many rows it has."""
        stored = self.stored()
        return stored.metadata.get(DIGEST, ""), stored.rows

    def write(self, file: Path, content: pa.Table | Parts) -> None:
        """Writes the rows, with their order, their digest and that of the table that they belong to.

        Args:
            file: the place: a file for a table, a folder for parts.

        Raises:
            ArtefactError: other columns than declared, or rows out of order, of another number or with other keys than
                those that they belong to.
            pa.ArrowInvalid: a value does not fit the declared type.
        """
        if isinstance(content, pa.Table):
            self._write_file(file, content)
        else:
            self._write_folder(file, content)

    def _write_file(self, file: Path, content: pa.Table) -> None:
        self._check_columns(content.schema)
        table = content.cast(self.present_schema)
        self._check_order(table, self.path)
        metadata = {DIGEST: table_digest(table), SORTED_BY: json.dumps(self.sorted_by)}
        if self.aligned_with:
            metadata[ALIGNED_WITH] = self._root_digest(table.num_rows)
            for name in self.sorted_by:
                if not table[name].equals(self.aligned_with.load([name])[name]):
                    raise self._other_key(name)
        group = max(1, min(ROW_GROUP, GROUP_BYTES * len(table) // max(table.nbytes, 1)))
        pq.write_table(table.replace_schema_metadata(metadata), file, row_group_size=group, compression="zstd")

    def _write_folder(self, folder: Path, parts: Parts) -> None:
        stored = write_parts(folder, parts, self.present_schema, self.sorted_by[0])
        self._check_columns(stored.schema if stored.files else self.present_schema)
        metadata = {SORTED_BY: json.dumps(self.sorted_by)}
        root = self.aligned_with
        if root:
            metadata[ALIGNED_WITH] = self._root_digest(stored.rows)
        declared = self.present_schema, self.sorted_by, self.unique, root.stored() if root else None
        blocks, metadata[DIGEST] = check_parts(stored, parts, *declared)
        if not all(block.ascends for block in blocks):
            raise self._out_of_order(self.path)
        for block in blocks:
            if block.other_key:
                raise self._other_key(block.other_key)
        write_manifest(folder, stored.rows, metadata)

    def _check_columns(self, schema: pa.Schema) -> None:
        declared = self.present_schema.names
        if schema.names != declared:
            raise ArtefactError(
                f"{self.path} has the columns {schema.names}, the catalogue declares {declared}: "
                f"run {self.writer} again."
            )

    def _check_order(self, table: pa.Table, name: str) -> None:
        if self.sorted_by and not ascends([table[column] for column in self.sorted_by], self.unique):
            raise self._out_of_order(name)

    def _out_of_order(self, name: str) -> ArtefactError:
        return ArtefactError(
            f"the rows of {name} do not ascend by {', '.join(self.sorted_by)}"
            f"{', each once' if self.unique else ''}: run {self.writer} again."
        )

    def _root_digest(self, rows: int) -> str:
        assert self.aligned_with
        digest, expected = self.aligned_with.digest()
        if expected != rows:
            raise ArtefactError(f"{self.path} has {rows} rows, {self.aligned_with.path} has {expected}.")
        return digest

    def _other_key(self, name: str) -> ArtefactError:
        assert self.aligned_with
        return ArtefactError(f"{self.path} holds another {name} in some rows than {self.aligned_with.path}.")

    def _check_alignment(self, stored: StoredTable, place: Path) -> None:
        if self.aligned_with is None:
            return
        digest, expected = self.aligned_with.digest()
        if stored.metadata.get(ALIGNED_WITH, "") != digest or stored.rows != expected:
            raise ArtefactError(
                f"{place} was made from another {self.aligned_with.path} than the present one: run {self.writer} again."
            )
