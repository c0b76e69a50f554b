"""Establishes that artefacts whose rows are shuffled, stale or incomplete are refused with a sentence."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data_exchange_center import catalogue
from data_exchange_center.artefact import Array, Artefact, ArtefactError, Json, StateDict
from data_exchange_center.columns import Column
from data_exchange_center.commit import writing
from data_exchange_center.settings import ROOT
from data_exchange_center.table_artefact import Table
from testkit.dataset import a_dataset

USERS, ROWS = 10, 60
ALIGNED = [table for table in vars(catalogue).values() if isinstance(table, Table) and table.aligned_with]
SORTED = [table for table in vars(catalogue).values() if isinstance(table, Table) and table.sorted_by]


def path_of(artefact: Artefact[Any]) -> str:
    return artefact.path


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path / "artefacts"))
    save(catalogue.DATASET, a_dataset())  # the columns of some tables follow its categories


def save(artefact: Artefact[Any], content: Any) -> None:
    with writing((artefact,)) as out:
        out.save(artefact, content)


def some_rows(table: Table, count: int, seed: int = 0) -> pa.Table:
    """Random content in the declared order: keys ascend from 0, all else is drawn."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for field in table.present_schema:
        if field.name in table.sorted_by:
            columns[field.name] = np.arange(count)
        elif pa.types.is_list(field.type):
            values = ["Drama", "War"] if pa.types.is_string(field.type.value_type) else [3, 8]
            columns[field.name] = pa.array([values[: rng.integers(0, 3)] for _ in range(count)], field.type)
        elif pa.types.is_string(field.type):
            columns[field.name] = [f"title {draw}" for draw in rng.integers(0, 99, count)]
        else:
            columns[field.name] = rng.integers(0, 3, count)
    return pa.table(columns).select(table.present_schema.names).cast(table.present_schema)


def save_with_its_root(table: Table, count: int = ROWS) -> None:
    """Saves the tables that `table` is aligned with, and then the table."""
    if table.aligned_with:
        save_with_its_root(table.aligned_with, count)
    save(table, some_rows(table, count))


def rewrite(table: Table, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes the file's rows and leaves all that it says of itself."""
    with pq.ParquetFile(table.file) as parquet:
        content, metadata = parquet.read(), parquet.schema_arrow.metadata
    pq.write_table(change(content).replace_schema_metadata(metadata), table.file)


def shuffled(content: pa.Table) -> pa.Table:
    """The rows in another order, keys and all."""
    return content.take(pa.array(np.random.default_rng(0).permutation(len(content))))


def assert_refused(artefact: Artefact[Any], *parts: str) -> None:
    """Loading is refused with a sentence that names the file, the stage that makes it, and `parts`."""
    with pytest.raises(ArtefactError) as raised:
        artefact.load()  # type: ignore[attr-defined]
    sentence = str(raised.value)
    assert all(part in sentence for part in (artefact.path, artefact.writer, *parts)), sentence
    assert (ROOT / artefact.writer).exists() and raised.value.is_expected


def test_the_tables_that_are_joined_row_by_row_are_declared_as_aligned() -> None:
    roots = {table: table.aligned_with for table in ALIGNED}
    assert roots[catalogue.HISTORY] is roots[catalogue.TRAINING_FRAME] is catalogue.OFFLINE_IMPRESSIONS
    assert roots[catalogue.USER_FEATURES] is roots[catalogue.USER_HISTORY] is catalogue.USERS
    assert roots[catalogue.ITEM_FEATURES] is roots[catalogue.ITEM_GENRES] is catalogue.ITEMS
    assert all(table.sorted_by for table in ALIGNED), "without a key nothing tells a shuffled table"


@pytest.mark.parametrize("table", SORTED, ids=path_of)
def test_saved_rows_are_loaded_and_shuffled_ones_refused(table: Table) -> None:
    """Each sorted table: shuffled at the writer's, and in the file, where the key column is shuffled along."""
    save_with_its_root(table)
    expected = some_rows(table, ROWS)
    assert table.load().equals(expected)
    other = [name for name in table.present_schema.names if name not in table.sorted_by][:1]
    assert table.load(other).equals(expected.select(other))  # the key is checked and left out
    with pytest.raises(ArtefactError, match=f"{re.escape(table.path)}.*do not ascend"):
        save(table, shuffled(expected))
    rewrite(table, shuffled)
    assert_refused(table, "do not ascend")
    with pytest.raises(ArtefactError, match="do not ascend"):
        table.load(other)


@pytest.mark.parametrize(("first", "last"), [(0, 60), (0, 7), (19, 21), (20, 40), (59, 60)])
def test_some_rows_are_read_from_the_row_groups_that_hold_them(
    first: int, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three row groups of 20: the others are damaged, and nobody notices."""
    monkeypatch.setattr("data_exchange_center.table_artefact.ROW_GROUP", 20)
    save_with_its_root(catalogue.HISTORY)
    table, file = catalogue.HISTORY.load(), catalogue.HISTORY.file
    content = bytearray(file.read_bytes())
    with pq.ParquetFile(file) as parquet:
        assert parquet.num_row_groups == 3
        for group in {0, 1, 2} - {row // 20 for row in range(first, last)}:
            for place in range(parquet.metadata.num_columns):
                chunk = parquet.metadata.row_group(group).column(place)
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                content[start : start + chunk.total_compressed_size] = b"x" * chunk.total_compressed_size
    file.write_bytes(content)
    assert catalogue.HISTORY.load(rows=(first, last)).equals(table.slice(first, last - first))
    names = table.column_names[2:0:-1]
    assert catalogue.HISTORY.load(names, (first, last)).equals(table.slice(first, last - first).select(names))
    assert len(catalogue.HISTORY.load(rows=(last, last))) == 0


@pytest.mark.parametrize("table", [table for table in SORTED if table.unique], ids=path_of)
def test_a_key_that_occurs_twice_is_refused(table: Table) -> None:
    save_with_its_root(table)
    rewrite(table, lambda content: content.take(pa.array([0, *range(ROWS - 1)])))
    assert_refused(table, "each once")


@pytest.mark.parametrize("table", ALIGNED, ids=path_of)
def test_a_stale_table_is_refused_until_its_stage_has_run_again(table: Table) -> None:
    """The rows that it belongs to are replaced by others of the same number and the same keys."""
    root = table.aligned_with
    assert root is not None
    save_with_its_root(table)
    save(root, some_rows(root, ROWS, seed=1))
    assert_refused(table, root.path)
    save(table, some_rows(table, ROWS))
    assert len(table.load()) == ROWS


@pytest.mark.parametrize("table", ALIGNED, ids=path_of)
def test_a_table_of_another_number_of_rows_is_refused(table: Table) -> None:
    save_with_its_root(table)
    with pytest.raises(ArtefactError, match=f"has {ROWS - 1} rows, .* has {ROWS}"):
        save(table, some_rows(table, ROWS - 1))
    assert len(table.load()) == ROWS  # the old file stands
    rewrite(table, lambda content: content.slice(0, ROWS - 1))
    assert_refused(table)


@pytest.mark.parametrize("table", ALIGNED, ids=path_of)
def test_a_table_with_other_keys_is_refused(table: Table) -> None:
    """As many rows, in order, and of others than those that it is saved beside."""
    save_with_its_root(table)
    content = some_rows(table, ROWS)
    (key,) = table.sorted_by
    place = content.schema.get_field_index(key)
    others = content.set_column(place, key, pa.array(content[key].to_numpy() + 1))
    with pytest.raises(ArtefactError, match=f"{re.escape(table.path)} holds another {key}"):
        save(table, others)
    assert table.load().equals(content)


@pytest.mark.parametrize("table", ALIGNED, ids=path_of)
def test_a_table_that_says_nothing_of_its_rows_is_refused(table: Table) -> None:
    """As one that an earlier version of the project wrote."""
    save_with_its_root(table)
    pq.write_table(pq.read_table(table.file).replace_schema_metadata(None), table.file)
    assert_refused(table)


@pytest.mark.parametrize("table", ALIGNED, ids=path_of)
def test_a_rerun_with_the_same_content_makes_nothing_stale(table: Table) -> None:
    """However the content lies in memory: in several chunks, as a slice of a larger table, or read back."""
    root = table.aligned_with
    assert root is not None
    save_with_its_root(table)
    content = some_rows(root, ROWS)
    digest = root.digest()
    larger = pa.concat_tables([content.slice(0, 7), content, content.slice(0, 5)]).combine_chunks()
    for same in (
        content,
        pa.concat_tables([content.slice(0, 13), content.slice(13)]),
        larger.slice(7, ROWS),
        root.load(),
        pa.Table.from_pylist(content.to_pylist(), content.schema),
    ):
        save(root, same)
        assert root.digest() == digest and len(table.load()) == ROWS


def test_any_changed_value_changes_the_digest() -> None:
    content = some_rows(catalogue.OFFLINE_IMPRESSIONS, ROWS)
    save(catalogue.OFFLINE_IMPRESSIONS, content)
    digests = {catalogue.OFFLINE_IMPRESSIONS.digest()[0]}
    for place, name in enumerate((Column.ITEMID, Column.LABEL, Column.SPLIT, Column.RATING), start=1):
        values = content[name].to_numpy().copy()
        values[ROWS // 2] += 1
        column = content.schema.get_field_index(name)
        save(catalogue.OFFLINE_IMPRESSIONS, content.set_column(column, name, pa.array(values)))
        digests.add(catalogue.OFFLINE_IMPRESSIONS.digest()[0])
        assert len(digests) == place + 1


def test_another_schema_is_refused() -> None:
    save(catalogue.USERS, some_rows(catalogue.USERS, USERS))
    for change in (
        lambda content: content.drop_columns([Column.GENDER]),
        lambda content: content.set_column(0, Column.USERID, content[Column.USERID].cast(pa.int32())),
        lambda content: content.select(content.column_names[::-1]),
    ):
        pq.write_table(change(some_rows(catalogue.USERS, USERS)), catalogue.USERS.file)
        assert_refused(catalogue.USERS, "schema")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e39], ids=str)
def test_an_array_that_is_not_finite_is_refused(value: float) -> None:
    """1e39 is finite in 64 bits, and is not in the declared 32."""
    save(catalogue.ITEM_VECTORS, np.ones((3, 2)))
    with pytest.raises(ArtefactError, match=f"{catalogue.ITEM_VECTORS.path}.*not finite"), np.errstate(over="ignore"):
        save(catalogue.ITEM_VECTORS, np.array([[1.0, value]]))
    assert (catalogue.ITEM_VECTORS.load() == 1).all()


def test_an_array_of_another_dtype_is_refused() -> None:
    save(catalogue.ITEM_VECTORS, np.ones((3, 2)))
    np.save(catalogue.ITEM_VECTORS.file, np.ones((3, 2), np.float64))
    with pytest.raises(ArtefactError, match=f"{catalogue.ITEM_VECTORS.path} holds float64"):
        catalogue.ITEM_VECTORS.load()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_a_state_dict_that_is_not_finite_is_refused(value: float) -> None:
    state = {"bias": torch.zeros(2), "table": torch.ones(3, 2), "count": torch.tensor(3)}
    save(catalogue.FM_MODEL, state)
    broken = {**state, "table": torch.tensor([[1.0, value]])}
    with pytest.raises(ArtefactError, match=rf"{catalogue.FM_MODEL.path}.*\['table'\]"):
        save(catalogue.FM_MODEL, broken)
    loaded = catalogue.FM_MODEL.load()
    assert list(loaded) == list(state) and all(torch.equal(loaded[name], state[name]) for name in state)


def test_a_document_is_loaded_as_it_was_saved() -> None:
    save(catalogue.DATASET, a_dataset())
    assert catalogue.DATASET.load() == a_dataset()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda content: content.pop("seed"), "seed"),
        (lambda content: content["rows"].pop("online"), "rows.online"),
        (lambda content: content.update(owner="me"), "owner"),
        (lambda content: content["rows"].update(more=1), "rows.more"),
        (lambda content: content.update(seed="many"), "seed"),
    ],
    ids=["a field is missing", "a nested field is missing", "an extra field", "a nested extra field", "another type"],
)
def test_a_document_that_is_not_as_declared_is_refused(change: Callable[[dict[str, Any]], Any], place: str) -> None:
    save(catalogue.DATASET, a_dataset())
    content = json.loads(catalogue.DATASET.file.read_text())
    change(content)
    catalogue.DATASET.file.write_text(json.dumps(content))
    assert_refused(catalogue.DATASET, f" {place}: ")


def test_a_document_that_is_no_json_is_refused() -> None:
    save(catalogue.DATASET, a_dataset())
    catalogue.DATASET.file.write_text(catalogue.DATASET.file.read_text()[:-20])
    assert_refused(catalogue.DATASET)


def test_a_metric_that_is_nan_is_not_written() -> None:
    rows = {name: 0 for name in catalogue.DATASET.model.model_fields["rows"].annotation.model_fields}
    content = {"dataset": "tiny", "seed": 1, "rows": rows, "users": 0, "users_with_terms": 0}
    document = catalogue.TERM_RECALL_METRICS.model.model_validate(
        {**content, "hit_rate@200": float("nan"), "recall@200": 0.0}
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        save(catalogue.TERM_RECALL_METRICS, document)
    assert not catalogue.TERM_RECALL_METRICS.file.exists()


def test_each_artefact_is_of_a_kind_that_is_tested_here() -> None:
    kinds = {type(value) for value in vars(catalogue).values() if isinstance(value, Artefact)}
    assert kinds == {Table, Array, Json, StateDict}
    json_models = [value.model for value in vars(catalogue).values() if isinstance(value, Json)]
    assert len(json_models) == len(set(json_models))
    assert all(model.model_config["extra"] == "forbid" for model in json_models)
