"""Establishes the project's structure: one writer an artefact, who imports whom, stages that run in every way."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_exchange_center import catalogue
from offline.__main__ import STAGES, sources_of
from offline_to_online.__main__ import LOADERS
from tests.conftest import CHECK, ROOT, Offline

ONLINE = ("online.main.s1_server", "online.main.s2_client")
ALL_STAGES = (*STAGES, *LOADERS, CHECK, *ONLINE)
WORLDS = ("data_exchange_center", "offline", "offline_to_online", "online", "services")
MAY_IMPORT = {
    "data_exchange_center": {"data_exchange_center"},
    "offline": {"data_exchange_center", "offline"},
    # The loaders export the offline models, and read back through the very callers that the server uses.
    "offline_to_online": {"data_exchange_center", "offline_to_online", "offline", "online"},
    "online": {"data_exchange_center", "online"},
    "services": {"data_exchange_center", "services"},
}
CODE = [file for world in WORLDS for file in sorted((ROOT / world).rglob("*.py"))]


def imports_of(file: Path) -> set[str]:
    """Modules that a file imports, with dots."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_there_are_13_stages_where_the_card_says() -> None:
    assert [stage.rsplit(".", 1) for stage in ALL_STAGES] == [
        ["offline.preprocess", "s1_data_split"],
        ["offline.preprocess", "s2_term_trans"],
        ["offline.recall", "s1_term_recall"],
        ["offline.recall", "s2_vector_recall"],
        ["offline.rank", "s1_feature_engi"],
        ["offline.rank", "s2_model_train"],
        ["offline_to_online.recall", "s1_user_to_redis"],
        ["offline_to_online.recall", "s2_item_to_es"],
        ["offline_to_online.rank", "s1_feature_to_feast"],
        ["offline_to_online.rank", "s2_model_to_triton"],
        ["offline_to_online.rank", "s3_check_offline_and_online"],
        ["online.main", "s1_server"],
        ["online.main", "s2_client"],
    ]


def test_each_artefact_has_one_writer_that_runs_before_its_readers() -> None:
    written: dict[catalogue.Artefact, str] = {}
    for name in (*STAGES, *LOADERS, CHECK):
        stage = importlib.import_module(name)
        for artefact in stage.READS:
            assert artefact in written, f"{name} reads {artefact.path} before anything writes it"
        for artefact in stage.WRITES:
            assert artefact not in written, f"{artefact.path} is written by {written.get(artefact)} and {name}"
            assert artefact.writer == f"{name.replace('.', '/')}.py"
            written[artefact] = name
    assert set(written) == set(catalogue.ARTEFACTS)


@pytest.mark.parametrize("name", [*STAGES, *LOADERS, CHECK])
def test_a_stage_touches_the_artefacts_it_declares(name: str) -> None:
    """READS and WRITES against the artefacts that the stage's own file and its helpers name."""
    stage = importlib.import_module(name)
    text = "".join(file.read_text("utf-8") for file in sources_of(name) if "data_exchange_center" not in file.parts)
    constants = {f"catalogue.{key}": value for key, value in vars(catalogue).items() if value in catalogue.ARTEFACTS}
    own = (ROOT / f"{name.replace('.', '/')}.py").read_text("utf-8")
    used = {value for key, value in constants.items() if own.count(key + ",") + own.count(key + ")") > 0}
    assert used <= set(stage.READS) | set(stage.WRITES)
    for artefact in (*stage.READS, *stage.WRITES):
        key = next(key for key, value in constants.items() if value == artefact)
        assert key in text, f"{name} declares {artefact.path} and never names it"


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(ROOT)))
def test_who_may_import_whom(file: Path) -> None:
    world = file.relative_to(ROOT).parts[0]
    for module in imports_of(file):
        top = module.split(".")[0]
        assert top not in WORLDS or top in MAY_IMPORT[world], f"{file} imports {module}"
        if not file.name == "__main__.py":
            assert module not in ALL_STAGES, f"{file} imports the stage {module}"


def test_the_server_is_free_of_torch_pandas_and_feast(artefacts: Offline) -> None:
    """In a process of its own: everything the server imports and reads at start."""
    script = (
        "import sys, online.main.s1_server, online.main.app\n"
        "from online.serving_data import ServingData\n"
        "ServingData.load()\n"
        "sys.exit(', '.join(sorted({'torch', 'pandas', 'feast', 'sklearn'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the server imports {done.stderr}"


@pytest.mark.parametrize("name", ALL_STAGES)
def test_importing_a_stage_does_nothing(name: str, tmp_path: Path) -> None:
    script = f"import {name}"
    env = {**os.environ, "ARTEFACTS_DIR": str(tmp_path), "REDIS_PORT": "1", "ES_PORT": "1", "FEAST_PORT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout == "" and not list(tmp_path.iterdir()), done.stdout + done.stderr


def test_nothing_is_pickled_or_evaluated() -> None:
    for file in CODE:
        text = file.read_text("utf-8")
        assert "import pickle" not in text and not re.search(r"(?<![\w.])eval\(", text)
        assert "sys.path" not in text, f"{file} edits sys.path"
