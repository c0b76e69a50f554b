"""Establishes that the readmes are a walk through every stage, and that each step prints what they show.

A step's output is compared with what the same command prints now on the tests' data set, by its shape: see shapes.py.
"""

import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_exchange_center import catalogue
from data_exchange_center.settings import Settings
from docs import pages, walk
from offline.__main__ import STAGES
from offline_to_online.__main__ import LOADERS
from tests.conftest import CHECK, ROOT, Offline, Stack, succeed
from tests.contracts.shapes import shape_of

READMES = {page.name: page.read_text("utf-8") for page in pages.READMES}
ALL_STAGES = (*STAGES, *LOADERS, CHECK, "online.main.s1_server", "online.main.s2_client")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
STEPS = {step.name: step for step in pages.recorded_steps(READMES["readme_en.md"])}
OFFLINE_STEPS = [name for name in STEPS if name.startswith("offline.")]
ONLINE_STEPS = [name for name in STEPS if not name.startswith("offline.")]
REFERENCE = [
    line
    for page in ("docs/api.md", "docs/operations.md")
    for block in pages.code_blocks((ROOT / page).read_text("utf-8"), "bash")
    for line in block.splitlines()
    if line.startswith("curl ")
]
MOST_LINES = 250
# Not run once more: what they printed when the tests' artefacts were made is compared. That they measure the same each
# time is tested on few rows (tests/offline/test_stages.py).
SLOWEST = ("offline.recall.s3_sequence_recall", "offline.rank.s3_candidate_ranker")

each_readme = pytest.mark.parametrize("name", READMES)


# --- the readmes are a walk ------------------------------------------------------------------------------------------


@each_readme
def test_a_readme_is_short_and_goes_through_all_stages_in_their_order(name: str) -> None:
    assert len(READMES[name].splitlines()) <= MOST_LINES
    linked = re.findall(r"\*\*\[[^\]]*\]\(([\w/]+/s\d_\w+\.py)\)", READMES[name])
    assert linked == [f"{stage.replace('.', '/')}.py" for stage in ALL_STAGES]
    for picture in ("architecture.svg", "page.png", "stages.png", "funnel.png", "latency.png"):
        assert f"](pic/{picture})" in READMES[name]


@each_readme
def test_every_step_shows_its_output(name: str) -> None:
    steps = pages.recorded_steps(READMES[name])
    assert {step.name for step in steps} >= set(ALL_STAGES) - {"online.main.s1_server"} and len(steps) == len(STEPS)
    assert all(step.output for step in steps)
    for step in steps:
        if step.name in ALL_STAGES and step.name != "online.main.s1_server":
            assert f"-m {step.name}" in step.commands


# --- recorded output -------------------------------------------------------------------------------------------------


def of_makefile(commands: str) -> str:
    """`make verb` as the verb's recipe, echoed as make does: the tests' environment is not to be installed again."""

    def recipe(match: re.Match[str]) -> str:
        body = re.search(rf"^{match[1]}:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
        assert body, match[0]
        lines = body[1].replace("$(PY)", ".venv/bin/python").replace("\t", "").splitlines()
        echoed = [f"printf '%s\\n' {shlex.quote(line.replace('.venv', '.VENV'))}" for line in lines]
        return "\n".join(part for pair in zip(echoed, lines, strict=True) for part in pair)

    return re.sub(r"^make ([a-z-]+)$", recipe, commands, flags=re.M)


def printed_now(name: str, commands: str, environment: dict[str, str]) -> str:
    printed = walk.run_step(name, of_makefile(commands), Settings(), environment)
    return walk.as_documented(printed, Settings()).replace(".VENV", ".venv")


def test_shapes_tell_outputs_apart() -> None:
    """The comparison itself: numbers and names may differ, words, columns and fields may not."""
    one = "read data/generated-2024: ratings 1,000,209, test 0.5"
    assert shape_of(one, "generated") == shape_of("read /tmp/a/b: ratings 99, test 1e-06", "b")
    assert shape_of(one, "generated") != shape_of("read /tmp/a/b: rows 99, test 1e-06", "b")
    table = "      item  title\n--  ------  -------\n 1      12  A (1999)\n"
    assert shape_of(table, "x") == shape_of(
        "    item  title\n--  ------  -----------\n 9       3  Some, The (2000)\n", "x"
    )
    assert shape_of(table, "x") != shape_of(
        "    item  name\n--  ------  -----------\n 9       3  Some, The (2000)\n", "x"
    )
    assert shape_of('{"a": [1, 2], "b": null}', "x") == shape_of('{"a": [3], "b": null}', "x")
    assert shape_of('{"a": [1, 2]}', "x") != shape_of('{"a": ["1"]}', "x")
    assert shape_of('{"a": 1}', "x") != shape_of('{"a": 1, "c": 1}', "x")


@pytest.fixture(scope="module")
def a_copy(offline: Offline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings for a copy of the artefacts, which the stages may write again."""
    copy = tmp_path_factory.mktemp("walk") / "artefacts"
    shutil.copytree(offline.artefacts, copy)
    return {**offline.env, "ARTEFACTS_DIR": str(copy)}


@pytest.mark.parametrize("name", OFFLINE_STEPS)
def test_an_offline_step_prints_what_the_readmes_show(name: str, a_copy: dict[str, str], offline: Offline) -> None:
    """And measures what it measured before: the same seed gives the same bytes, on the same machine."""
    if name in SLOWEST:
        printed = walk.as_documented(offline.printed_by(name), Settings())
    else:
        printed = printed_now(name, STEPS[name].commands, a_copy)
    assert shape_of(printed, offline.data.name) == shape_of(STEPS[name].output, walk.DEFAULT_DATASET)
    writes = importlib.import_module(name).WRITES if name in STAGES else ()
    for path in (artefact.path for artefact in writes if artefact.path.endswith("metrics.json")):
        assert (Path(a_copy["ARTEFACTS_DIR"]) / path).read_bytes() == (offline.artefacts / path).read_bytes(), path


def with_ids_of(commands: str) -> str:
    """Users and items of the default data set, replaced by some of the tests'."""
    users = catalogue.USER_FILTER.load().column(0).to_pylist()
    item = catalogue.ITEMS.load().column(0)[0].as_py()
    commands = re.sub(r'("itemid": )1\b', rf"\g<1>{item}", commands)
    return re.sub(r'(userid[=" :\[]+)([12])\b', lambda m: f"{m[1]}{users[int(m[2]) - 1]}", commands)


@pytest.fixture(scope="module")
def cleaned(stack: Stack) -> Iterator[None]:
    """The commands send events, which the other tests are not to meet."""
    yield
    for loader in (LOADERS[0], LOADERS[3]):
        succeed(loader, **stack.env)


@pytest.mark.parametrize("name", ONLINE_STEPS)
@pytest.mark.usefixtures("cleaned")
def test_an_online_step_prints_what_the_readmes_show(name: str, served: Stack, offline: Offline) -> None:
    printed = printed_now(name, with_ids_of(STEPS[name].commands), served.env)
    assert shape_of(printed, offline.data.name) == shape_of(STEPS[name].output, walk.DEFAULT_DATASET)


@pytest.mark.parametrize("line", REFERENCE)
@pytest.mark.usefixtures("cleaned")
def test_every_request_of_the_reference_gets_its_response(line: str, served: Stack) -> None:
    command = with_ids_of(line).replace("curl ", "curl --write-out '\\n%{http_code}' ", 1)
    *content, status = walk.run_step("reference", command, Settings(), served.env).splitlines()
    assert status == ("400" if "userid=x" in line else "200"), content
    assert content


def test_the_walk_needs_a_stack_that_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_PORT", "1")
    with pytest.raises(walk.WalkError, match="`make run` first"):
        walk.record(Settings())


def test_a_step_that_fails_is_told() -> None:
    with pytest.raises(walk.WalkError, match="the step odd ends with status 3"):
        walk.run_step("odd", "echo before | cat\nexit 3\n", Settings())
    with pytest.raises(walk.WalkError, match="status 1"):
        walk.run_step("odd", "false | tail -1\n", Settings())


def test_what_is_recorded_names_no_machine() -> None:
    recorded = f"\x1b[1mread\x1b[0m {ROOT}/data/x on http://127.0.0.1:{Settings().web_port}/  \n"
    assert walk.as_documented(recorded, Settings()) == "read data/x on http://127.0.0.1:5000/\n"
