"""Establishes the project's structure: one writer an artefact, who imports whom, stages that run in every way."""

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefact
from data_exchange_center.columns import Column
from offline.__main__ import STAGES
from offline_to_online.__main__ import LOADERS
from tests.conftest import CHECK, ROOT, Offline

ONLINE = ("online.main.s1_server", "online.main.s2_client")
WAY_BACK = ("online_to_offline.s1_log_to_tables", "online_to_offline.s2_training_rows")
WITH_ARTEFACTS = (*STAGES, *LOADERS, CHECK, *WAY_BACK)
ALL_STAGES = (*WITH_ARTEFACTS, *ONLINE)
MAY_IMPORT = {
    "data_exchange_center": {"data_exchange_center"},
    "offline": {"data_exchange_center", "offline"},
    # The loaders export the offline models, and read back through the very callers that the server uses.
    "offline_to_online": {"data_exchange_center", "offline_to_online", "offline", "online"},
    "online": {"data_exchange_center", "online"},
    # The way back: drains what the server logged, through the callers that the server logs with.
    "online_to_offline": {"data_exchange_center", "online_to_offline", "online"},
    "services": {"data_exchange_center", "services"},
    # What measures the whole system may use all of it; nothing but tests and docs may use what measures.
    "testkit": {"data_exchange_center", "services", "testkit"},
    "benchmarks": {
        "data_exchange_center",
        "offline",
        "offline_to_online",
        "online",
        "online_to_offline",
        "services",
        "testkit",
        "benchmarks",
    },
    "docs": {"data_exchange_center", "services", "benchmarks", "docs"},
}
WORLDS = tuple(MAY_IMPORT)
CODE = [file for world in WORLDS for file in sorted((ROOT / world).rglob("*.py"))]
TESTS = sorted({*(ROOT / "tests").rglob("*.py")} - {Path(__file__)})  # this file names the words that it forbids
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 60
# Each with the word that the glossary has for it.
FORBIDDEN = {"wanted": "relevant", "judged": "evaluated", "stranger": "cold-start user", "anew": "again"}
ARTEFACTS = {name: value for name, value in vars(catalogue).items() if isinstance(value, Artefact)}
DECLARATIONS = ("READS", "WRITES")  # the endings of the names of tuples that declare, and load or save nothing


def path_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def file_of(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def imports_of(file: Path) -> set[str]:
    """Modules that a file imports, with dots."""
    found = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_there_are_19_stages_where_the_card_says() -> None:
    assert [stage.rsplit(".", 1) for stage in ALL_STAGES] == [
        ["offline.preprocess", "s1_data_split"],
        ["offline.preprocess", "s2_term_trans"],
        ["offline.recall", "s1_term_recall"],
        ["offline.recall", "s2_vector_recall"],
        ["offline.recall", "s3_sequence_recall"],
        ["offline.recall", "s4_similar_items"],
        ["offline.rank", "s1_feature_engi"],
        ["offline.rank", "s2_model_train"],
        ["offline.rank", "s3_candidate_ranker"],
        ["offline_to_online.recall", "s1_user_to_redis"],
        ["offline_to_online.recall", "s2_item_to_es"],
        ["offline_to_online.recall", "s3_tower_to_triton"],
        ["offline_to_online.rank", "s1_feature_to_feast"],
        ["offline_to_online.rank", "s2_model_to_triton"],
        ["offline_to_online.rank", "s3_check_offline_and_online"],
        ["online_to_offline", "s1_log_to_tables"],
        ["online_to_offline", "s2_training_rows"],
        ["online.main", "s1_server"],
        ["online.main", "s2_client"],
    ]


def test_each_artefact_has_one_writer_that_runs_before_its_readers() -> None:
    written: dict[Artefact[Any], str] = {}
    for name in WITH_ARTEFACTS:
        stage = importlib.import_module(name)
        for artefact in stage.READS:
            assert artefact in written, f"{name} reads {artefact.path} before anything writes it"
        for artefact in stage.WRITES:
            assert artefact not in written, f"{artefact.path} is written by {written.get(artefact)} and {name}"
            assert artefact.writer == f"{name.replace('.', '/')}.py"
            written[artefact] = name
    assert set(written) == set(ARTEFACTS.values())
    assert len({artefact.path for artefact in written}) == len(written)


# What a stage loads and saves, read from its source: from the stage's own file, and from those functions of its
# helpers that it reaches. The declarations themselves are left out, or each would be found in itself.

Definition = tuple[Path, str]  # a file, and a name that is defined at its top


def target_names(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def declares(node: ast.stmt) -> bool:
    return any(name.endswith(DECLARATIONS) for name in target_names(node))


@cache
def definitions_in(file: Path) -> dict[str, ast.stmt]:
    return {name: node for node in tree_of(file).body if not declares(node) for name in target_names(node)}


@cache
def imported_names(file: Path) -> dict[str, Definition]:
    """Where each name that a file imports from the project comes from; an imported module has no name of its own."""
    found: dict[str, Definition] = {}
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                module = file_of(f"{node.module}.{alias.name}")
                found[alias.asname or alias.name] = (
                    (module, "") if module.exists() else (file_of(node.module), alias.name)
                )
    return found


def used_definitions(node: ast.AST, file: Path) -> Iterator[Definition]:
    """The project's definitions that a piece of code of `file` names."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in definitions_in(file):
            yield file, part.id
        elif isinstance(part, ast.Name) and part.id in imported_names(file):
            yield imported_names(file)[part.id]
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            module, name = imported_names(file).get(part.value.id, (file, ""))
            if module != file and not name:
                yield module, part.attr


def reached_code(stage: str) -> list[ast.AST]:
    """The stage's own code without its declarations, and the helpers' definitions that it uses, transitively."""
    own = file_of(stage)
    code: list[ast.AST] = [node for node in tree_of(own).body if not declares(node)]
    waiting = [definition for node in code for definition in used_definitions(node, own)]
    seen: set[Definition] = set()
    while waiting:
        file, name = definition = waiting.pop()
        helper = file.exists() and file != own and file.relative_to(ROOT).parts[0] != "data_exchange_center"
        if definition in seen or not helper or name not in definitions_in(file):
            continue
        seen.add(definition)
        code.append(definitions_in(file)[name])
        waiting += used_definitions(definitions_in(file)[name], file)
    return code


def artefact_named(node: ast.AST) -> str | None:
    """The NAME of `catalogue.NAME`, where that is what a node is."""
    is_entry = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "catalogue"
    return node.attr if is_entry and node.attr in ARTEFACTS else None  # type: ignore[attr-defined]


def artefact_uses(code: list[ast.AST]) -> tuple[set[str], set[str], set[str]]:
    """The entries of the catalogue that code loads, saves, and passes on to be loaded or saved elsewhere."""
    loaded, saved, named = set(), set(), []
    for node in (part for root in code for part in ast.walk(root)):
        if isinstance(node, ast.Attribute) and node.attr == "load" and (name := artefact_named(node.value)):
            loaded.add(name)
            named.remove(name) if name in named else named.append(f"-{name}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "save":
            if node.args and (name := artefact_named(node.args[0])):
                saved.add(name)
                named.append(f"-{name}")
        elif name := artefact_named(node):
            named.remove(f"-{name}") if f"-{name}" in named else named.append(name)
    return loaded, saved, {name for name in named if not name.startswith("-")}


@pytest.mark.parametrize("name", WITH_ARTEFACTS)
def test_a_stage_loads_and_saves_what_it_declares(name: str) -> None:
    """READS and WRITES against what the stage's code loads and saves; test_stages.py watches the offline ones run."""
    stage = importlib.import_module(name)
    reads, writes = ({key for key, value in ARTEFACTS.items() if value in d} for d in (stage.READS, stage.WRITES))
    loaded, saved, passed_on = artefact_uses(reached_code(name))
    assert loaded <= reads, f"{name} loads {loaded - reads} and does not declare it"
    assert saved <= writes, f"{name} saves {saved - writes} and does not declare it"
    assert passed_on <= reads | writes, f"{name} uses {passed_on - reads - writes} and does not declare it"
    assert reads <= loaded | passed_on, f"{name} declares {reads - loaded - passed_on} and never loads it"
    assert writes <= saved | passed_on, f"{name} declares {writes - saved - passed_on} and never saves it"
    assert not reads & writes


def test_loads_and_saves_are_told_from_declarations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: on a stage of which every use is known, its declarations and an unused helper aside."""
    helper, stage = tmp_path / "room/helper.py", tmp_path / "room/s1_stage.py"
    helper.parent.mkdir()
    helper.write_text(
        "from data_exchange_center import catalogue\n"
        "HELPER_READS = (catalogue.RANKER_META,)\n"
        "def used(table=catalogue.USER_TERM):\n    return inner(), table.load()\n"
        "def inner():\n    return catalogue.ITEMS.load()\n"
        "def unused():\n    return catalogue.DATASET.load()\n"
    )
    stage.write_text(
        "from data_exchange_center import catalogue\n"
        "from room import helper\n"
        "READS = (catalogue.FM_MODEL, *helper.HELPER_READS)\n"
        "WRITES: tuple = (catalogue.HISTORY,)\n"
        "def main():\n"
        "    helper.used()\n    catalogue.USERS.load()\n    out.save(catalogue.USER_FILTER, 1)\n"
        "    for artefact in (catalogue.USER_VECTORS,):\n        out.save(artefact, 1)\n"
    )
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert artefact_uses(reached_code("room.s1_stage")) == (
        {"USERS", "ITEMS"},
        {"USER_FILTER"},
        {"USER_VECTORS", "USER_TERM"},
    )


@pytest.mark.parametrize("file", CODE, ids=path_of)
def test_who_may_import_whom(file: Path) -> None:
    world = file.relative_to(ROOT).parts[0]
    for module in imports_of(file):
        top = module.split(".")[0]
        assert top != "tests", f"{file} imports {module}"
        assert top not in WORLDS or top in MAY_IMPORT[world], f"{file} imports {module}"
        if file.name != "__main__.py" and world != "benchmarks":  # which measures the stages themselves
            assert module not in ALL_STAGES, f"{file} imports the stage {module}"


def test_every_folder_of_code_has_rules() -> None:
    """A new folder with Python in it must be a world above, or no folder of this project."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert {Path(name).parts[0] for name in listed} <= {*WORLDS, "tests"}
    assert all(any(file.is_relative_to(ROOT / world) for file in CODE) for world in WORLDS)


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


@pytest.mark.parametrize("file", CODE, ids=path_of)
def test_modules_and_functions_are_short(file: Path) -> None:
    lines = len(file.read_text("utf-8").splitlines())
    assert lines <= MOST_LINES, f"{file} has {lines} lines"
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            length = (node.end_lineno or first) - first + 1
            assert length <= MOST_LINES_OF_A_FUNCTION, f"{node.name} in {file} has {length} lines"


def forbidden_words(text: str, draws: bool) -> list[str]:
    """The words of a module that the glossary has replaced; `draws` allows matplotlib's figure."""
    words = [rf"{word}s?" for word in FORBIDDEN] + ([] if draws else ["figures?"])
    return re.findall(rf"\b(?:{'|'.join(words)})\b", text.replace("_", " "), re.IGNORECASE)


@pytest.mark.parametrize("file", [*CODE, *TESTS], ids=path_of)
def test_the_glossarys_words_are_used(file: Path) -> None:
    text = file.read_text("utf-8")
    found = forbidden_words(text, draws="matplotlib" in text or file in CHARTS)
    assert not found, f"{file} says {found}; say {[FORBIDDEN.get(word.lower(), 'metric') for word in found]}"


# Charts whose modules get matplotlib's figure from benchmarks/drawing.py.
CHARTS = [file for file in CODE if file.is_relative_to(ROOT / "benchmarks") and "drawing" in file.read_text("utf-8")]


def test_forbidden_words_are_found() -> None:
    assert forbidden_words("All items JUDGED, and wanted_items anew.", draws=True) == ["JUDGED", "wanted", "anew"]
    assert forbidden_words("The figures of a figure", draws=False) == ["figures", "figure"]
    assert forbidden_words("fig, axis = plt.subplots()  # a figure; prejudged, manewed", draws=True) == []


@pytest.mark.parametrize("file", CODE, ids=path_of)
def test_column_names_are_used_qualified(file: Path) -> None:
    """As Column.USERID: from columns.py come classes and constants, and no module gives a column a name of its own."""
    columns = {name for name in vars(Column) if name.isupper()}
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom) and node.module == "data_exchange_center.columns":
            bare = {alias.name for alias in node.names} & columns
            renamed = {alias.asname for alias in node.names if alias.asname}
            assert not bare | renamed, f"{file} imports {bare | renamed} without a prefix"
    for statement in tree_of(file).body:
        value = getattr(statement, "value", None)
        is_column = (
            isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == "Column"
        )
        assert not (target_names(statement) and is_column), f"{file} names a column {target_names(statement)}"
