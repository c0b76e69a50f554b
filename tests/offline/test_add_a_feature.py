"""Follows the recipe "add a dense feature" from one line and one function to the served score, in a copy of the code.

A feature of an item and one of a user are added as a reader of the recipe would add them. Nothing else of the copy is
edited, and everything else must follow: the artefacts' schemas, the training frame, the model's widths, the exported
model, Triton's configuration, Feast's fields, and the order in which the server assembles a candidate.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_exchange_center.triton_models import RANKER
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.scale import Scale
from offline.rank import derived_features
from offline.rank.derived_features import DerivationError, add_derived
from offline_to_online.model_repository import model_configuration
from testkit.dataset import FEATURES
from tests.conftest import ROOT

ROOMS = ("data_exchange_center", "offline", "offline_to_online", "online")
LAST_LINE = '        *(DenseFeature(count, "user") for count in counts),\n'
LINES = '        DenseFeature("title_letters", "item"),\n', '        DenseFeature("is_adult", "user"),\n'
FUNCTIONS = '''

@derived
def title_letters(items: pa.Table) -> IntArray:
    """[items] how many characters the title has."""
    return np.array([len(title) for title in items["title"].to_pylist()])


@derived
def is_adult(users: pa.Table) -> IntArray:
    """[users] 1 for the age groups from 18 years on."""
    return (users["age"].to_numpy() > 1).astype(np.int64)
'''

# Run in the copy, where the features of both entities are declared.
PROBE = """
import json, os, pathlib, sys
import numpy as np, onnx, onnxruntime, torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton
from data_exchange_center import assembler, catalogue
from data_exchange_center.columns import Column
from data_exchange_center.serving_names import CATEGORIES_FILE
from data_exchange_center.tables import rows_by_key, to_matrix
from offline.rank.training import Rows, score
from data_exchange_center.triton_models import RANKER
from offline_to_online import exported_model
from offline_to_online.rank.expected_features import expected_features
from offline_to_online.model_repository import model_configuration
from offline_to_online.rank.s1_feature_to_feast import write_categories

features = catalogue.DATASET.load().features
write_categories(pathlib.Path(os.environ["FEAST_DATA"]) / CATEGORIES_FILE, features.categories)
from data_exchange_center.online.feast import definitions  # which reads them

model = exported_model.trained_ranker()
deepfm = model.module.deepfm
content = exported_model.to_onnx(model)
exported_model.compare_with_pytorch(model, content)
graph = onnx.load_from_string(content).graph
session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

# A candidate for each training row, assembled from what the entities have, as the server does it.
frame = catalogue.TRAINING_FRAME.load()
impressions = catalogue.OFFLINE_IMPRESSIONS.load()
users = rows_by_key(expected_features("user", {}), Column.USERID, impressions[Column.USERID].to_numpy())
items = rows_by_key(expected_features("item", {}), Column.ITEMID, impressions[Column.ITEMID].to_numpy())
sparse, dense = assembler.assemble(
    features, to_matrix(users, features.user_columns, np.int64), to_matrix(items, features.item_columns, np.int64)
)
def logits(dense):
    recall, sequence = np.zeros((1, len(sparse), 5), np.float32), np.zeros((1, 20), np.int64)
    inputs = (sparse[None], dense[None], recall, sequence, sequence)
    return session.run(["logit"], dict(zip([tensor.name for tensor in RANKER.inputs], inputs)))[0]
rows, added = Rows.from_table(frame, features), sys.argv[1:]
places = [features.dense_columns.index(name) for name in added]
changes = {}
for name, place in zip(added, places):
    other = dense.copy()
    other[:, place] += 3
    changes[name] = float(np.abs(logits(other) - logits(dense)).max())
meta = catalogue.FEATURE_META.load()
text = model_configuration(RANKER, features, meta.feature_hash, "d", "l")
configuration = text_format.Parse(text, triton.ModelConfig())
tables = catalogue.TRAINING_FRAME, catalogue.USER_FEATURES, catalogue.ITEM_FEATURES
print(json.dumps({
    "columns": features.columns,
    "meta": meta.columns,
    "hash": meta.feature_hash,
    "deepfm": catalogue.DEEPFM_META.load().columns,
    "schemas": [table.present_schema.names for table in tables],
    "model": [len(deepfm.mean), deepfm.mlp[0].in_features if len(deepfm.mlp) else 0],
    "onnx": {value.name: value.type.tensor_type.shape.dim[2].dim_value for value in list(graph.input)[:2]},
    "triton": {tensor.name: list(tensor.dims) for tensor in list(configuration.input)[:2]},
    "triton_columns": configuration.parameters["columns"].string_value.split(","),
    "feast": {name: [field.name for field in view.schema] for name, view in definitions.views.items()},
    "assembled_as_trained": [
        bool((sparse == rows.sparse.numpy()).all()), bool((dense[:, places] == rows.dense.numpy()[:, places]).all()),
    ],
    "frame": {name: frame[name].to_pylist() for name in added},
    "titles": catalogue.ITEMS.load([Column.ITEMID, Column.TITLE]).to_pydict(),
    "ages": catalogue.USERS.load([Column.USERID, Column.AGE]).to_pydict(),
    "ids": {name: impressions[name].to_pylist() for name in (Column.USERID, Column.ITEMID)},
    "changes": changes,
    "statistics": [float(deepfm.mean[place]) for place in places],
    "means": [float(rows.dense[:, place].float().mean()) for place in places],
}))
"""


def insert_after(file: Path, line: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert text.count(line) == 1
    file.write_text(text.replace(line, line + new), "utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the two features declared, and a tiny data set."""
    project = tmp_path_factory.mktemp("recipe") / "project"
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            place = project / file.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    generate(project.parent / "raw", Scale(100, 150, 4000, 4000, 9000), seed=3)
    insert_after(project / "data_exchange_center/features.py", LAST_LINE, "".join(LINES))
    return project


def run_in(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PYTHONPATH": str(project),
        "DATA_DIR": str(project.parent / "raw"),
        "ARTEFACTS_DIR": str(project.parent / "artefacts"),
        "FEAST_DATA": str(project.parent / "feast"),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def followed(project: Path) -> dict[str, Any]:
    """What the probe finds after the offline stages; before, the declaration without its functions is refused."""
    refused = run_in(project, "-m", "offline")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "error: The feature is_adult is declared, but no stage makes its column" in refused.stderr
    assert "offline/rank/derived_features.py" in refused.stderr

    functions = project / "offline/rank/derived_features.py"
    functions.write_text(functions.read_text() + FUNCTIONS)
    insert_after(functions, "import pyarrow as pa\n", "import numpy as np\n")
    done = run_in(project, "-m", "offline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": unchanged") == 6, "what was done before the functions were written is kept"
    probe = run_in(project, "-c", PROBE, "title_letters", "is_adult")
    assert probe.returncode == 0, probe.stderr
    found: dict[str, Any] = json.loads(probe.stdout.splitlines()[-1])
    return found


ADDED = ["title_letters", "is_adult"]


def test_declaration_artefacts_and_model_have_the_feature(followed: dict[str, Any]) -> None:
    columns = [*FEATURES.columns, *ADDED]
    assert followed["columns"] == followed["meta"] == followed["deepfm"] == followed["triton_columns"] == columns
    frame, user, item = followed["schemas"]
    assert frame[1:-2] == columns
    assert user[-1] == "is_adult" and "title_letters" not in user
    assert item[-1] == "title_letters" and "is_adult" not in item
    widths = {"sparse_features": len(FEATURES.sparse), "dense_features": len(FEATURES.dense) + 2}
    assert followed["onnx"] == widths
    assert followed["triton"] == {name: [-1, width] for name, width in widths.items()}
    assert followed["model"][0] == widths["dense_features"] <= followed["model"][1]
    assert followed["statistics"] == pytest.approx(followed["means"], rel=1e-4)


def test_frame_and_assembler_hold_what_the_function_computes(followed: dict[str, Any]) -> None:
    letters = {item: len(title) for item, title in zip(*followed["titles"].values(), strict=True)}
    adult = {user: int(age > 1) for user, age in zip(*followed["ages"].values(), strict=True)}
    assert followed["frame"]["title_letters"] == [letters[item] for item in followed["ids"]["itemid"]]
    assert followed["frame"]["is_adult"] == [adult[user] for user in followed["ids"]["userid"]]
    assert len(set(letters.values())) > 5 and set(adult.values()) == {0, 1}
    assert followed["assembled_as_trained"] == [True, True]


def test_feast_keeps_it_out_of_the_history_that_events_push(followed: dict[str, Any]) -> None:
    feast = followed["feast"]
    assert "is_adult" in feast["user_profile"] and "title_letters" in feast["item_features"]
    assert set(feast["user_history"]) == {"userid", *FEATURES.history_counts}


def test_the_exported_models_score_follows_its_value(followed: dict[str, Any]) -> None:
    assert all(followed["changes"][name] > 1e-4 for name in ADDED), followed["changes"]


def test_nothing_changes_without_a_derived_feature() -> None:
    """The functions add to what the tables have; the declared 59 all come from tables."""
    assert derived_features._FUNCTIONS == {}
    assert len(FEATURES.columns) == 59 and FEATURES.dense_columns == FEATURES.history_counts
    assert f'columns"\n  value {{\n    string_value: "{",".join(FEATURES.columns)}"' in model_configuration(
        RANKER, FEATURES, "h", "d", "l"
    )


SCHEMA = pa.schema([("itemid", pa.int64()), ("length", pa.uint8())])
ITEMS = pa.table({"itemid": [3, 5], "title": ["A", "Bcd"]})


def test_a_column_that_a_table_has_is_left_as_it_is() -> None:
    table = pa.table({"itemid": [1], "length": pa.array([7], pa.uint8())})
    assert add_derived(table, SCHEMA) is table


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1, 300], "does not fit into uint8.*300"),
        ([1, -1], "does not fit into uint8.*-1"),
        ([1.0, 2.5], "does not fit into uint8.*2.5"),
        ([1], "has 1 values, of which 0 are empty, for 2 rows"),
        ([1, None], "has 2 values, of which 1 are empty, for 2 rows"),
        (["a", "b"], "does not fit into uint8"),
    ],
)
def test_values_that_the_artefacts_cannot_hold_are_refused(
    values: list[Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(derived_features._FUNCTIONS, "length", lambda items: values)
    with pytest.raises(DerivationError, match=f"feature length {sentence}") as raised:
        add_derived(ITEMS, SCHEMA)
    assert raised.value.is_expected


def test_a_function_gets_the_table_and_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived_features, "_FUNCTIONS", {})

    @derived_features.derived
    def length(items: pa.Table) -> np.ndarray:
        assert items is ITEMS
        return np.array([len(title) for title in items["title"].to_pylist()])

    added = add_derived(ITEMS, SCHEMA)
    assert added.column_names == ["itemid", "title", "length"] and added["length"].to_pylist() == [1, 3]
    assert added.schema.field("length").type == pa.uint8()
    assert length.__name__ == "length"
