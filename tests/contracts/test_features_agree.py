"""Establishes that everything derived from the features' declaration agrees: names, order, types and widths."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from data_exchange_center import assembler, catalogue, features
from data_exchange_center.serving_names import FEAST_SERVICES, TRITON_DENSE, TRITON_OUTPUT, TRITON_SPARSE
from data_exchange_center.vocabularies import GENRES
from offline.rank.training import Rows
from offline_to_online.rank.model_repository import model_configuration
from tests.conftest import ROOT, Offline, Stack


def test_the_declaration_is_the_specified_one() -> None:
    assert (len(features.COLUMNS), len(features.SPARSE), len(features.DENSE)) == (59, 23, 36)
    assert features.COLUMNS[:5] == ("user_index", "gender", "age", "occupation", "item_index")
    assert features.COLUMNS[5] == "genre_action" and features.COLUMNS[23] == "imp_action"
    assert features.COLUMNS[-1] == "clk_western" and len(set(features.COLUMNS)) == 59
    assert {f.embedding_dim for f in features.SPARSE if f.vocabulary in ("userid", "itemid")} == {16}
    assert {f.embedding_dim for f in features.SPARSE if f.vocabulary not in ("userid", "itemid")} == {2}
    assert len(features.GENRE_FLAGS) == len(GENRES)


def test_frame_entities_and_assembler_have_the_declared_order() -> None:
    frame, user, item = (a.schema for a in (catalogue.TRAINING_FRAME, catalogue.USER_FEATURES, catalogue.ITEM_FEATURES))
    assert frame is not None and user is not None and item is not None
    assert tuple(frame.names[:59]) == features.COLUMNS
    assert tuple(user.names[1:]) == features.entity_columns("user") == assembler.USER_COLUMNS
    assert tuple(item.names[1:]) == features.entity_columns("item") == assembler.ITEM_COLUMNS
    values = {name: at for at, name in enumerate(features.COLUMNS)}
    sparse, dense = assembler.assemble(
        np.array([values[name] for name in assembler.USER_COLUMNS]),
        np.array([[values[name] for name in assembler.ITEM_COLUMNS]]),
    )
    assert sparse.tolist() == [[values[name] for name in features.SPARSE_COLUMNS]] and sparse.dtype == np.int64
    assert dense.tolist() == [[values[name] for name in features.DENSE_COLUMNS]] and dense.dtype == np.float32


def test_serving_rows_are_training_rows(artefacts: Offline) -> None:
    """The assembler makes of the entities' features what the training frame holds, history aside."""
    frame = catalogue.load_table(catalogue.TRAINING_FRAME)
    impressions = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS)
    users, items = (catalogue.load_table(a) for a in (catalogue.USER_FEATURES, catalogue.ITEM_FEATURES))
    picked = np.random.default_rng(0).integers(0, len(frame), 200)
    of_user = np.searchsorted(users["userid"].to_numpy(), impressions["userid"].to_numpy()[picked])
    of_item = np.searchsorted(items["itemid"].to_numpy(), impressions["itemid"].to_numpy()[picked])
    sparse, _ = assembler.assemble(
        np.stack([users[name].to_numpy()[of_user] for name in assembler.USER_COLUMNS], 1),
        np.stack([items[name].to_numpy()[of_item] for name in assembler.ITEM_COLUMNS], 1),
    )
    assert (Rows.from_table(frame).sparse.numpy()[picked] == sparse).all()


def test_the_hash_sees_order_sizes_and_ids() -> None:
    sizes = features.vocabulary_sizes({"userid": 10, "itemid": 20})
    swapped = (features.COLUMNS[1], features.COLUMNS[0], *features.COLUMNS[2:])
    other = features.vocabulary_sizes({"userid": 11, "itemid": 20})
    hashes = {
        features.feature_hash(features.COLUMNS, sizes, "a"),
        features.feature_hash(swapped, sizes, "a"),
        features.feature_hash(features.COLUMNS, other, "a"),
        features.feature_hash(features.COLUMNS, sizes, "b"),
    }
    assert len(hashes) == 4
    assert features.feature_hash(features.COLUMNS, sizes, "a") in hashes


def test_triton_configuration_and_onnx_have_the_declared_widths(stack: Stack) -> None:
    model = max((stack.artefacts / "online/triton/ml_rec").glob("*/model.onnx"), key=lambda f: int(f.parent.name))
    shapes = {
        value.name: (value.type.tensor_type.shape.dim[1].dim_value, value.type.tensor_type.elem_type)
        for value in (*onnx.load(model).graph.input, *onnx.load(model).graph.output)
    }
    assert shapes == {
        TRITON_SPARSE: (23, onnx.TensorProto.INT64),
        TRITON_DENSE: (36, onnx.TensorProto.FLOAT),
        TRITON_OUTPUT: (1, onnx.TensorProto.FLOAT),
    }
    configuration = model_configuration("h", "d", 0.1)
    assert re.search(rf'name: "{TRITON_SPARSE}" data_type: TYPE_INT64 dims: \[ 23 \]', configuration)
    assert re.search(rf'name: "{TRITON_DENSE}" data_type: TYPE_FP32 dims: \[ 36 \]', configuration)
    assert ",".join(features.COLUMNS) in configuration


def test_feast_has_the_declared_fields(tmp_path: Path) -> None:
    """Read in a process of its own, as `feast apply` does. Feast keeps no order: everyone asks it by name."""
    script = (
        "from data_exchange_center.online.feast import definitions as d\n"
        "for e, v in d.views.items(): print(d.services[e].name, *[f.name for f in v.schema])\n"
    )
    file = tmp_path / "fields.py"
    file.write_text(script)
    env = {"FEAST_DATA": str(tmp_path), "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, str(file)], env={**os.environ, **env}, capture_output=True, text=True, check=True
    ).stdout
    for line, entity in zip(printed.splitlines(), ("user", "item"), strict=True):
        service, *fields = line.split()
        assert service == FEAST_SERVICES[entity]
        assert sorted(fields) == sorted([features.JOIN_KEYS[entity], *features.entity_columns(entity)])


@pytest.mark.parametrize("module", ["features", "columns", "vocabularies", "serving_names"])
def test_what_feasts_container_imports_needs_the_standard_library_only(module: str) -> None:
    script = (
        f"import data_exchange_center.{module}, sys\n"
        "sys.exit(', '.join({'numpy', 'pyarrow', 'pydantic', 'pandas'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
