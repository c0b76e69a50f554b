"""Establishes that a table in a folder of parts is loaded, checked and replaced as one in a file is."""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_exchange_center import catalogue, digests, stored_table
from data_exchange_center.artefact import ArtefactError
from data_exchange_center.columns import Column
from data_exchange_center.commit import writing
from data_exchange_center.table_artefact import Table
from testkit.dataset import a_dataset
from tests.data_exchange_center.test_artefact import SORTED, path_of, save, some_rows

ROWS = 60


@dataclass(frozen=True)
class ArrayParts:
    """Parts of a table in memory, in the types that Spark has, under names that say nothing of their order."""

    table: pa.Table
    bounds: Sequence[int]

    def write(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir()
        (folder / "_SUCCESS").touch()
        wider = pa.schema([(f.name, pa.int16() if f.type == pa.uint8() else f.type) for f in self.table.schema])
        for place, (start, end) in enumerate(itertools.pairwise([0, *self.bounds, len(self.table)])):
            content = self.table.slice(start, end - start).cast(wider)
            pq.write_table(content, folder / f"part-{99 - place}.parquet", row_group_size=7)

    def each(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        return [function(task) for task in tasks]


@pytest.fixture(autouse=True)
def small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path / "artefacts"))
    monkeypatch.setattr(digests, "BLOCK_ROWS", 8)
    monkeypatch.setattr(stored_table, "BLOCK_ROWS", 8)
    save(catalogue.DATASET, a_dataset())


def save_roots(table: Table) -> None:
    if table.aligned_with:
        save_roots(table.aligned_with)
        save(table.aligned_with, some_rows(table.aligned_with, ROWS))


@pytest.mark.parametrize("table", SORTED, ids=path_of)
def test_parts_are_loaded_as_the_file_is_and_have_its_digest(table: Table) -> None:
    """However they are cut, and whichever of the two was there before."""
    save_roots(table)
    content = some_rows(table, ROWS)
    save(table, content)
    digest, other = table.digest(), table.present_schema.names[-1:]
    for bounds in ([20, 20, 41], [59], [], [1, 2, 3]):
        save(table, ArrayParts(content, bounds))
        assert table.file.is_dir() and table.digest() == digest
        assert table.load().equals(content) and table.load(other).equals(content.select(other))
        for start, end in ((0, ROWS), (19, 21), (40, 55), (59, 60), (7, 7), (58, 99)):
            assert table.load(rows=(start, end)).equals(content.slice(start, end - start))
    save(table, content)
    assert table.file.is_file() and table.digest() == digest
    assert table.load(other, (8, 50)).equals(content.select(other).slice(8, 42))
    assert not [left for left in table.file.parent.iterdir() if left.name.endswith(".tmp")]


@pytest.mark.parametrize("table", SORTED, ids=path_of)
def test_parts_in_another_order_are_refused_and_leave_what_was_there(table: Table) -> None:
    save_roots(table)
    content = some_rows(table, ROWS)
    save(table, content)
    swapped = np.arange(ROWS)
    for place in (7, 19):  # between two blocks, and between two parts of whole users
        order = swapped.copy()
        order[[place, place + 1]] = order[[place + 1, place]]
        with pytest.raises(ArtefactError, match="do not ascend"):
            save(table, ArrayParts(content.take(pa.array(order)), [30]))
    with pytest.raises(ArtefactError, match="has the columns"):
        save(table, ArrayParts(content.drop_columns(content.column_names[-1:]), [20]))
    assert table.file.is_file() and table.load().equals(content)


def test_parts_with_other_keys_than_their_rows_are_refused() -> None:
    save_roots(catalogue.HISTORY)
    content = some_rows(catalogue.HISTORY, ROWS)
    keys = content[Column.IMPRESSION].to_numpy().copy()
    keys[-1] += 1
    with pytest.raises(ArtefactError, match=f"another {Column.IMPRESSION}"):
        save(catalogue.HISTORY, ArrayParts(content.set_column(0, Column.IMPRESSION, pa.array(keys)), [20]))
    with pytest.raises(ArtefactError, match=f"has {ROWS - 1} rows"):
        save(catalogue.HISTORY, ArrayParts(content.slice(0, ROWS - 1), [20]))


def test_a_folder_that_lacks_a_part_or_its_manifest_is_refused() -> None:
    table = catalogue.ONLINE_IMPRESSIONS
    save(table, ArrayParts(some_rows(table, ROWS), [20, 40]))
    next(table.file.glob("part-00001*")).unlink()
    with pytest.raises(ArtefactError, match=f"(?s){table.file.name}.*run {table.writer} again"):
        table.load()
    save(table, ArrayParts(some_rows(table, ROWS), [20, 40]))
    (table.file / stored_table.MANIFEST).unlink()
    with pytest.raises(ArtefactError, match=f"run {table.writer} again"):
        table.load()


@pytest.mark.parametrize("killed_after", ["nothing", "the old one is aside"])
def test_a_folder_whose_move_was_cut_short_is_moved_by_the_next_reader(
    killed_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = catalogue.ONLINE_IMPRESSIONS
    old, new = some_rows(table, ROWS), some_rows(table, ROWS, seed=1)
    save(table, ArrayParts(old, [20]))
    moves = []

    def replace(source: Any, target: Any) -> None:
        # The record itself is moved first; then the old folder aside; then the new one into its place.
        if len(moves) == {"nothing": 1, "the old one is aside": 2}[killed_after]:
            raise KeyboardInterrupt
        moves.append(source)
        original(source, target)

    original = os.replace
    with monkeypatch.context() as context:
        context.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt), writing((table,)) as out:
            out.save(table, ArrayParts(new, [30]))
    assert table.load().equals(new)
