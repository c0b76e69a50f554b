"""Establishes that everything derived from the features' declaration agrees: names, order, types and widths."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from data_exchange_center import catalogue
from data_exchange_center.assembler import assemble
from data_exchange_center.commit import writing
from data_exchange_center.features import JOIN_KEYS, declare
from data_exchange_center.limits import TRITON_MAX_BATCH
from data_exchange_center.serving_names import (
    CATEGORIES_FILE,
    FEAST_SERVICES,
    FEAST_VIEWS,
    USER_HISTORY,
)
from data_exchange_center.tables import rows_by_key, to_matrix
from data_exchange_center.triton_models import MODELS, RANKER, TritonModel
from data_exchange_center.vocabularies import GENRES, MOVIELENS, Categories, slugs
from offline.rank.training import Rows
from offline_to_online.model_repository import model_configuration
from offline_to_online.rank.s1_feature_to_feast import write_categories
from testkit.dataset import FEATURES, a_dataset
from tests.conftest import ROOT, Offline, Stack


def test_the_declaration_is_the_specified_one() -> None:
    assert (len(FEATURES.columns), len(FEATURES.sparse), len(FEATURES.dense)) == (59, 23, 36)
    assert FEATURES.columns[:5] == ("user_index", "gender", "age", "occupation", "item_index")
    assert FEATURES.columns[5] == "genre_action" and FEATURES.columns[23] == "imp_action"
    assert FEATURES.columns[-1] == "clk_western" and len(set(FEATURES.columns)) == 59
    assert {f.embedding_dim for f in FEATURES.sparse if f.vocabulary in ("userid", "itemid")} == {16}
    assert {f.embedding_dim for f in FEATURES.sparse if f.vocabulary not in ("userid", "itemid")} == {2}
    assert len(FEATURES.genre_flags) == len(GENRES)


def test_an_own_tables_features_follow_its_categories() -> None:
    """Names are unique and plain whatever the genres are; MovieLens's own are as they have always been."""
    own = declare(Categories(("科幻", "Sci-Fi", "sci fi", "Émigré"), {"user_plan": ("a", "b")}, {"item_brand": ("x",)}))
    assert own.genre_flags == ("genre_1", "genre_sci_fi", "genre_sci_fi_3", "genre_migr")
    assert own.user_columns[:2] == ("user_index", "user_plan") and own.item_columns[:2] == ("item_index", "item_brand")
    assert own.vocabulary_sizes({"userid": 9, "itemid": 8})["user_plan"] == 3
    assert (len(own.sparse), len(own.dense)) == (2 + 2 + 4, 8)
    assert slugs(["Pop", "Pop 3", "pop", "3", "动作", "喜剧", "6"]) == ("pop", "pop_3", "pop_3_3", "3", "5", "6_6", "6")
    assert slugs(GENRES)[3] == "childrens" and len(set(slugs(GENRES))) == len(GENRES)
    sizes = own.vocabulary_sizes({"userid": 9, "itemid": 8})
    renamed = declare(replace(own.categories, user={"user_plan": ("a", "c")}))
    assert own.hash(sizes, "i") != renamed.hash(sizes, "i")  # the same sizes, and index 2 is another category


def test_frame_entities_and_assembler_have_the_declared_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path))
    with writing((catalogue.DATASET,)) as out:
        out.save(catalogue.DATASET, a_dataset())
    frame, user, item = (
        a.present_schema for a in (catalogue.TRAINING_FRAME, catalogue.USER_FEATURES, catalogue.ITEM_FEATURES)
    )
    assert tuple(name for name in frame.names if name in FEATURES.columns) == FEATURES.columns
    assert tuple(user.names[1:]) == FEATURES.user_columns
    assert tuple(item.names[1:]) == FEATURES.item_columns
    values = {name: at for at, name in enumerate(FEATURES.columns)}
    sparse, dense = assemble(
        FEATURES,
        np.array([values[name] for name in FEATURES.user_columns]),
        np.array([[values[name] for name in FEATURES.item_columns]]),
    )
    assert sparse.tolist() == [[values[name] for name in FEATURES.sparse_columns]] and sparse.dtype == np.int64
    assert dense.tolist() == [[values[name] for name in FEATURES.dense_columns]] and dense.dtype == np.float32


def test_serving_rows_are_training_rows(artefacts: Offline) -> None:
    """The assembler makes of the entities' features what the training frame holds, history aside."""
    frame = catalogue.TRAINING_FRAME.load()
    impressions = catalogue.OFFLINE_IMPRESSIONS.load()
    users, items = (a.load() for a in (catalogue.USER_FEATURES, catalogue.ITEM_FEATURES))
    picked = np.random.default_rng(0).integers(0, len(frame), 200)
    user_rows, item_rows = (
        rows_by_key(table, key, impressions[key].to_numpy()[picked])
        for table, key in ((users, "userid"), (items, "itemid"))
    )
    sparse, _ = assemble(
        FEATURES,
        to_matrix(user_rows, FEATURES.user_columns, np.int64),
        to_matrix(item_rows, FEATURES.item_columns, np.int64),
    )
    assert (Rows.from_table(frame, FEATURES).sparse.numpy()[picked] == sparse).all()


def test_the_hash_sees_order_sizes_and_ids() -> None:
    sizes = FEATURES.vocabulary_sizes({"userid": 10, "itemid": 20})
    first, second, *others = FEATURES.features
    swapped = replace(FEATURES, features=(second, first, *others))
    other = FEATURES.vocabulary_sizes({"userid": 11, "itemid": 20})
    hashes = {
        FEATURES.hash(sizes, "a"),
        swapped.hash(sizes, "a"),
        FEATURES.hash(other, "a"),
        FEATURES.hash(sizes, "b"),
    }
    assert len(hashes) == 4
    assert FEATURES.hash(sizes, "a") in hashes


ONNX_TYPES = {"INT64": onnx.TensorProto.INT64, "FP32": onnx.TensorProto.FLOAT}
TRITON_TYPES = {"INT64": triton.TYPE_INT64, "FP32": triton.TYPE_FP32}


def test_the_ranking_models_inputs_are_the_specified_ones() -> None:
    widths = {tensor.name: tensor.shape for tensor in RANKER.of(FEATURES).inputs}
    assert widths == {
        "sparse_features": (-1, 23),
        "dense_features": (-1, 36),
        "recall_features": (-1, 5),
        "recent": (20,),
        "liked": (20,),
    }
    assert [tensor.name for tensor in RANKER.outputs] == ["logit", "rank_score"] and RANKER.name == "ml_rec"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_onnx_has_the_declared_tensors(model: TritonModel, stack: Stack) -> None:
    file = max((stack.artefacts / "online/triton" / model.name).glob("*/model.onnx"), key=lambda f: int(f.parent.name))
    graph, model = onnx.load(file).graph, model.of(FEATURES)
    for declared, found in ((model.inputs, graph.input), (model.outputs, graph.output)):
        assert [(value.name, value.type.tensor_type.elem_type) for value in found] == [
            (tensor.name, ONNX_TYPES[tensor.datatype]) for tensor in declared
        ]
        for tensor, value in zip(declared, found, strict=True):
            widths = [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]
            assert len(widths) == len(tensor.shape)
            assert all(width == known for width, known in zip(widths, tensor.shape, strict=True) if known > 0)
    configuration = text_format.Parse((file.parents[1] / "config.pbtxt").read_text(), triton.ModelConfig())
    assert configuration.parameters["columns"].string_value == ",".join(FEATURES.columns)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_tritons_configuration_is_read_back_as_declared(model: TritonModel) -> None:
    """Whatever the values hold: text_format escapes them."""
    text = model_configuration(model, FEATURES, 'quote " backslash \\ newline \n', "l", "d")
    configuration, model = text_format.Parse(text, triton.ModelConfig()), model.of(FEATURES)
    assert (configuration.name, configuration.platform) == (model.name, "onnxruntime_onnx")
    assert configuration.max_batch_size == TRITON_MAX_BATCH
    for declared, found in ((model.inputs, configuration.input), (model.outputs, configuration.output)):
        assert [(tensor.name, tensor.data_type, tuple(tensor.dims)) for tensor in found] == [
            (tensor.name, TRITON_TYPES[tensor.datatype], tensor.shape) for tensor in declared
        ]
    (group,) = configuration.instance_group
    assert (group.kind, group.count) == (triton.ModelInstanceGroup.KIND_CPU, 1)
    assert configuration.version_policy.latest.num_versions == 1
    several = text_format.Parse(model_configuration(model, FEATURES, "h", "l", side_by_side=4), triton.ModelConfig())
    assert several.version_policy.latest.num_versions == 4 and "state_digest" not in several.parameters
    assert {name: value.string_value for name, value in configuration.parameters.items()} == {
        "columns": ",".join(FEATURES.columns),
        "feature_hash": 'quote " backslash \\ newline \n',
        "state_digest": "d",
        "load_digest": "l",
    }


def test_each_feature_is_in_exactly_one_view_of_feast_and_events_change_only_the_history() -> None:
    for entity in JOIN_KEYS:
        columns = [column for view in FEAST_VIEWS if view.entity == entity for column in view.columns(FEATURES)]
        assert sorted(columns) == sorted(FEATURES.entity_columns(entity))
    assert USER_HISTORY.columns(FEATURES) == FEATURES.history_counts
    assert len({view.name for view in FEAST_VIEWS}) == len(FEAST_VIEWS)


def test_feast_has_the_declared_fields(tmp_path: Path) -> None:
    """Read in a process of its own, as `feast apply` does. Feast keeps no order: every caller requests by name."""
    script = (
        "from data_exchange_center.online.feast import definitions as d\n"
        "for v in d.views.values(): print('view', v.name, v.stream_source and v.stream_source.name, "
        "*[f.name for f in v.schema])\n"
        "for s in d.services.values(): print('service', s.name, *[p.name for p in s.feature_view_projections])\n"
    )
    write_categories(tmp_path / CATEGORIES_FILE, MOVIELENS)
    file = tmp_path / "fields.py"
    file.write_text(script)
    env = {"FEAST_DATA": str(tmp_path), "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, str(file)], env={**os.environ, **env}, capture_output=True, text=True, check=True
    ).stdout
    lines = [line.split() for line in printed.splitlines()]
    assert [line[1:3] for line in lines if line[0] == "view"] == [
        ["user_profile", "None"],
        ["user_history", "user_history_push"],
        ["item_features", "None"],
    ]
    for view, (_, _, _, *fields) in zip(FEAST_VIEWS, lines, strict=False):
        assert sorted(fields) == sorted([JOIN_KEYS[view.entity], *view.columns(FEATURES)])
    assert [line[1:] for line in lines if line[0] == "service"] == [
        [FEAST_SERVICES["user"], "user_profile", "user_history"],
        [FEAST_SERVICES["item"], "item_features"],
    ]


@pytest.mark.parametrize("module", ["features", "columns", "vocabularies", "serving_names", "limits"])
def test_what_feasts_container_imports_needs_the_standard_library_only(module: str) -> None:
    script = (
        f"import data_exchange_center.{module}, sys\n"
        "sys.exit(', '.join({'numpy', 'pyarrow', 'pydantic', 'pandas'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
