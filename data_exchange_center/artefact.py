"""The kinds of artefacts, and how each is read, checked and written; which ones exist is in catalogue.py.

A table's file carries, beside its rows, the columns that it is sorted by, a digest of its content and, where its rows
belong to the rows of another table, the digest of that table. `load` checks all of them, so that a shuffled or a stale
table is refused with a sentence instead of being joined row by row to the wrong rows.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from data_exchange_center.digests import table_digest
from data_exchange_center.settings import Settings

Content = TypeVar("Content")
Document = TypeVar("Document", bound=BaseModel)

DIGEST = b"recsys.digest"
SORTED_BY = b"recsys.sorted_by"
ALIGNED_WITH = b"recsys.aligned_with"
ROW_GROUP = 1 << 18  # rows, the least that is decoded at a time


class ArtefactError(Exception):
    """An artefact is missing or is not what the catalogue declares; the message names the stage to run."""

    is_expected = True


@dataclass(frozen=True, eq=False)
class Artefact(ABC, Generic[Content]):
    """One file that a stage hands to others."""

    path: str
    writer: str  # the stage that makes it
    about: str

    @property
    def file(self) -> Path:
        """Where it lies under the present settings."""
        return Settings().artefacts / self.path

    def existing_file(self) -> Path:
        """The file, after any interrupted commit is completed; within `writing`, what the stage has just written.

        Raises:
            ArtefactError: it is missing.
        """
        from data_exchange_center.commit import complete_interrupted_commits, written_by  # which imports this module

        complete_interrupted_commits()
        file = written_by.get().get(self, self.file)
        if not file.exists():
            raise ArtefactError(f"{file} is missing. It is made by {self.writer}: run that stage, or `make offline`.")
        return file

    @abstractmethod
    def write(self, file: Path, content: Content) -> None:
        """Writes the content to `file`, checked against the declaration."""


Artefacts = tuple[Artefact[Any], ...]


@dataclass(frozen=True, eq=False)
class Table(Artefact[pa.Table]):
    """A parquet file with a declared schema.

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
        file, schema = self.existing_file(), self.present_schema
        names = schema.names if columns is None else list(columns)
        read = list(dict.fromkeys([*names, *self.sorted_by]))
        try:
            with pq.ParquetFile(file) as parquet:  # not read_table, which imports pandas: the server is free of it
                if not parquet.schema_arrow.equals(schema):
                    raise ArtefactError(f"{file} has another schema than the catalogue: run {self.writer} again.")
                metadata, count = parquet.schema_arrow.metadata or {}, parquet.metadata.num_rows
                table = parquet.read(read) if rows is None else _read_rows(parquet, read, *rows)
        except pa.ArrowInvalid as error:
            raise ArtefactError(f"{file} is no readable parquet ({error}): run {self.writer} again.") from error
        self._check_order(table, str(file))
        self._check_alignment(metadata, count, file)
        return table.select(names)

    def digest(self) -> tuple[str, int]:
        """The digest of the stored content, and how many rows it has, from the file's footer."""
        with pq.ParquetFile(self.existing_file()) as parquet:
            metadata = parquet.schema_arrow.metadata or {}
            return metadata.get(DIGEST, b"").decode(), parquet.metadata.num_rows

    def write(self, file: Path, content: pa.Table) -> None:
        """Writes the rows, with their order, their digest and that of the table that they belong to.

        Raises:
            ArtefactError: other columns than declared, or rows out of order, of another number or with other keys than
                those that they belong to.
            pa.ArrowInvalid: a value does not fit the declared type.
        """
        schema = self.present_schema
        if content.schema.names != schema.names:
            raise ArtefactError(
                f"{self.path} has the columns {content.schema.names}, the catalogue declares {schema.names}: "
                f"run {self.writer} again."
            )
        table = content.cast(schema)
        self._check_order(table, self.path)
        metadata = {DIGEST: table_digest(table), SORTED_BY: json.dumps(self.sorted_by)}
        if self.aligned_with:
            digest, rows = self.aligned_with.digest()
            if rows != table.num_rows:
                raise ArtefactError(f"{self.path} has {table.num_rows} rows, {self.aligned_with.path} has {rows}.")
            self._check_keys(table)
            metadata[ALIGNED_WITH] = digest
        pq.write_table(table.replace_schema_metadata(metadata), file, ROW_GROUP, compression="zstd")

    def _check_order(self, table: pa.Table, name: str) -> None:
        if self.sorted_by and not _ascends([table[column] for column in self.sorted_by], self.unique):
            raise ArtefactError(
                f"the rows of {name} do not ascend by {', '.join(self.sorted_by)}"
                f"{', each once' if self.unique else ''}: run {self.writer} again."
            )

    def _check_keys(self, table: pa.Table) -> None:
        assert self.aligned_with
        for name in self.sorted_by:
            if not table[name].equals(self.aligned_with.load([name])[name]):
                raise ArtefactError(f"{self.path} holds another {name} in some rows than {self.aligned_with.path}.")

    def _check_alignment(self, metadata: dict[bytes, bytes], rows: int, file: Path) -> None:
        if self.aligned_with is None:
            return
        digest, expected = self.aligned_with.digest()
        if metadata.get(ALIGNED_WITH, b"").decode() != digest or rows != expected:
            raise ArtefactError(
                f"{file} was made from another {self.aligned_with.path} than the present one: run {self.writer} again."
            )


@dataclass(frozen=True, eq=False)
class Array(Artefact[npt.NDArray[Any]]):
    """An npy file of one declared dtype."""

    dtype: str

    def load(self) -> npt.NDArray[Any]:
        """The array.

        Raises:
            ArtefactError: the file is missing, or holds another dtype.
        """
        array: npt.NDArray[Any] = np.load(self.existing_file(), allow_pickle=False)
        if str(array.dtype) != self.dtype:
            raise ArtefactError(f"{self.path} holds {array.dtype}, the catalogue declares {self.dtype}.")
        return array

    def write(self, file: Path, content: npt.NDArray[Any]) -> None:
        """Writes the array in the declared dtype.

        Raises:
            ArtefactError: a value is not finite: a model that diverged must not be served.
        """
        array = content.astype(self.dtype)
        if not np.isfinite(array).all():
            raise ArtefactError(f"{self.path} would hold values that are not finite: it is not written.")
        with file.open("wb") as opened:
            np.save(opened, array, allow_pickle=False)


@dataclass(frozen=True, eq=False)
class Json(Artefact[Document]):
    """A JSON file with a pydantic model of data_exchange_center/documents.py or dataset.py."""

    model: type[Document]

    def load(self) -> Document:
        """The document.

        Raises:
            ArtefactError: the file is missing, or is not what the model declares.
        """
        file = self.existing_file()
        try:
            return self.model.model_validate_json(file.read_bytes())
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            raise ArtefactError(f"{file}: {place}: {fault['msg']}: run {self.writer} again.") from error

    def write(self, file: Path, content: Document) -> None:
        """Writes the document; NaN is refused, since JSON has none."""
        fields = content.model_dump(mode="json", by_alias=True, exclude_none=True)
        text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        file.write_text(text, "utf-8")


@dataclass(frozen=True, eq=False)
class StateDict(Artefact[dict[str, Any]]):
    """A PyTorch model's state dict: tensors only, so that nothing in the file can run code."""

    def load(self) -> dict[str, Any]:
        """The tensors by name, on the CPU.

        Raises:
            ArtefactError: the file is missing.
        """
        import torch  # not at the top: the server imports this module and must stay free of torch

        state: dict[str, Any] = torch.load(self.existing_file(), weights_only=True, map_location="cpu")
        return state

    def write(self, file: Path, content: dict[str, Any]) -> None:
        """Writes the tensors.

        Raises:
            ArtefactError: a value is not finite.
        """
        import torch

        infinite = [name for name, tensor in content.items() if not torch.isfinite(tensor).all()]
        if infinite:
            raise ArtefactError(f"{self.path} would hold values that are not finite in {infinite}: it is not written.")
        with file.open("wb") as opened:  # not by name, which torch would write into the file
            torch.save(content, opened)


def _read_rows(parquet: pq.ParquetFile, columns: list[str], first: int, last: int) -> pa.Table:
    """The rows from `first` on and before `last`, from the row groups that hold them."""
    ends = list(accumulate(parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)))
    groups = [g for g, end in enumerate(ends) if first < end and (ends[g - 1] if g else 0) < last]
    before = ends[groups[0] - 1] if groups and groups[0] else 0
    return parquet.read_row_groups(groups, columns).slice(first - before, max(last - first, 0))


def _ascends(columns: list[pa.ChunkedArray], strictly: bool) -> bool:
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
