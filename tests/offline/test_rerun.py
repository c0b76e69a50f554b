"""Establishes that a second run of the offline half redoes what depends on a change, and nothing else."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_exchange_center import catalogue
from data_exchange_center.settings import Settings
from offline import __main__ as rerun
from offline.__main__ import STAGES, inputs_of, recorded
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.scale import Scale
from offline.sources import sources_of
from tests.conftest import ROOT, Offline, succeed

# What is imported inside functions: modules that import each other, and PySpark, which not everyone has.
LAZILY = {"commit.py", "files.py", "spark_engine.py", "spark_session.py"}
ROOMS = ("data_exchange_center", "offline")


def copy_of_artefacts(offline: Offline, folder: Path) -> dict[str, str]:
    """The environment of a run on a copy of the artefacts."""
    shutil.copytree(offline.artefacts, folder / "copy", ignore=shutil.ignore_patterns("online"))
    return {**offline.env, "ARTEFACTS_DIR": str(folder / "copy")}


def test_a_second_run_redoes_only_what_is_missing(offline: Offline, tmp_path: Path) -> None:
    env = copy_of_artefacts(offline, tmp_path)
    assert succeed("offline", **env).count(": unchanged") == len(STAGES)
    (tmp_path / "copy" / catalogue.USER_TERM.path).unlink()
    printed = succeed("offline", **env)
    assert printed.count(": unchanged") == len(STAGES) - 1 and "offline.recall.s1_term_recall:\n" in printed


def test_a_record_that_a_killed_run_left_unfinished_counts_as_none(offline: Offline, tmp_path: Path) -> None:
    env = copy_of_artefacts(offline, tmp_path)
    record = tmp_path / "copy/.stages/offline.recall.s1_term_recall.json"
    record.write_text(record.read_text()[:100])
    printed = succeed("offline", **env)
    assert printed.count(": unchanged") == len(STAGES) - 1 and "offline.recall.s1_term_recall:\n" in printed
    assert recorded(record) is not None and recorded(tmp_path / "none.json") is None


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the code of the offline half, with a tiny data set and no artefacts."""
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            place = tmp_path / "project" / file.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    generate(tmp_path / "raw", Scale(60, 80, 1500, 60, 80), seed=3)
    return tmp_path / "project"


def run_offline(project: Path, **settings: str) -> tuple[list[str], str]:
    """Runs `python -m offline` in the copy; the stages that were redone, by their last name, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "offline"],
        cwd=project,
        env={
            **os.environ,
            "PYTHONPATH": str(project),
            "DATA_DIR": str(project.parent / "raw"),
            "ARTEFACTS_DIR": str(project.parent / "artefacts"),
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(any(line.startswith(f"{stage}:") for line in lines) for stage in STAGES)
    return [stage.rsplit(".", 1)[1] for stage in STAGES if f"{stage}:" in lines], done.stdout


def edit(file: Path, old: str = "", new: str = "# Edited.\n") -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1) if old else text + new, "utf-8")


def test_a_changed_source_setting_or_file_redoes_what_depends_on_it(project: Path) -> None:
    """What a stage depends on is held by the tests below; here, that it and what follows from it are redone."""
    names = [stage.rsplit(".", 1)[1] for stage in STAGES]
    assert run_offline(project)[0] == names
    assert run_offline(project)[0] == []
    # A comment in a stage: its artefacts come out as they were, and so nothing behind it is redone.
    edit(project / "offline/recall/s1_term_recall.py")
    assert run_offline(project)[0] == ["s1_term_recall"]
    # A change that changes artefacts is followed through them: the window reaches all but the FM and the neighbours.
    edit(project / "data_exchange_center/user_state.py", "WINDOW = 10", "WINDOW = 7")
    redone, _ = run_offline(project)
    assert redone == [name for name in names if name not in ("s2_vector_recall", "s4_similar_items")]
    # Raw data with a rating more, and another seed, which every stage takes from the first one's artefacts.
    raw = project.parent / "raw"
    lines = (raw / "ratings.dat").read_text().splitlines()
    user = lines[0].split("::")[0]
    rated = {line.split("::")[1] for line in lines if line.startswith(f"{user}::")}
    items = [line.split("::")[0] for line in (raw / "movies.dat").read_text("iso-8859-1").splitlines()]
    with (raw / "ratings.dat").open("a") as ratings:
        ratings.write(f"{user}::{next(item for item in items if item not in rated)}::5::1000000000\n")
    assert run_offline(project, SEED="7")[0] == names


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        (
            "offline/rank/deepfm.py",
            ["s2_model_train", "s3_candidate_ranker"],
        ),  # of which the second takes it from the first
        ("offline/rank/item_knowledge.py", ["s3_candidate_ranker"]),
        ("offline/rank/derived_features.py", ["s1_feature_engi"]),  # which lies behind another helper
        ("offline/recall/array_recall.py", ["s1_term_recall", "s3_candidate_ranker"]),
        ("data_exchange_center/settings.py", [stage.rsplit(".", 1)[1] for stage in STAGES]),
    ],
)
def test_a_helper_is_a_source_of_the_stages_that_are_made_of_it(file: str, stages: list[str]) -> None:
    assert [stage.rsplit(".", 1)[1] for stage in STAGES if ROOT / file in sources_of(stage)] == stages


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_made_of_what_it_imports(name: str) -> None:
    """Against the interpreter: the project's modules that importing the stage loads."""
    script = (
        f"import sys, {name}\n"
        "print(*sorted(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    files = {Path(line) for line in printed.splitlines()}
    loaded = {file for file in files if any(file.is_relative_to(ROOT / room) for room in ROOMS)}
    lazily = sources_of(name) - loaded
    assert loaded <= sources_of(name)
    assert {file.name for file in lazily} <= LAZILY, "imported inside functions"
    assert ROOT / "offline/__init__.py" in loaded


@pytest.fixture
def inputs(artefacts: Offline, monkeypatch: pytest.MonkeyPatch) -> Any:
    """inputs_of a stage, with one artefact or source at a time replaced by another content."""

    def of_stage(name: str, changed: Path | None = None) -> dict[str, Any]:
        plain = rerun.file_digest

        def digest(file: Path) -> str:
            return "changed" if file == changed else plain(file)

        with monkeypatch.context() as patched:
            patched.setattr(rerun, "file_digest", digest)
            return inputs_of(name, importlib.import_module(name).READS, Settings())

    return of_stage


@pytest.mark.parametrize("name", STAGES)
def test_the_inputs_hold_every_source_and_every_artefact_read(name: str, inputs: Any) -> None:
    state = inputs(name)
    assert json.loads(json.dumps(state)) == state  # as it comes back from its record
    assert set(state["code"]) == {str(file.relative_to(ROOT)) for file in sources_of(name)}
    for file in sources_of(name):
        assert inputs(name, file)["code"] != state["code"] and inputs(name, file)["reads"] == state["reads"]
    for artefact in importlib.import_module(name).READS:
        assert inputs(name, artefact.file)["reads"] != state["reads"]
        assert inputs(name, artefact.file)["code"] == state["code"]


def test_the_first_stages_inputs_hold_settings_and_raw_data(
    inputs: Any, offline: Offline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = STAGES[0]
    states = [inputs(first)]
    monkeypatch.setenv("SEED", "99")
    states.append(inputs(first))
    shutil.copytree(offline.data, tmp_path / offline.data.name)  # the copy keeps sizes and times
    monkeypatch.setenv("DATA_DIR", str(tmp_path / offline.data.name))
    states.append(inputs(first))
    os.utime(tmp_path / offline.data.name / "users.dat", ns=(1, 1))
    states.append(inputs(first))
    with (tmp_path / offline.data.name / "users.dat").open("a") as users:
        users.write("7::M::1::3::0\n")
    os.utime(tmp_path / offline.data.name / "users.dat", ns=(1, 1))
    states.append(inputs(first))
    assert all(one != other for at, one in enumerate(states) for other in states[:at])


def test_a_source_that_is_edited_while_its_stage_runs_is_redone(
    artefacts: Offline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record tells of the code that the run began with."""
    for name, value in copy_of_artefacts(artefacts, tmp_path).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "copy/.stages" / f"{STAGES[2]}.json").unlink()
    edited: list[str] = []
    plain = rerun.file_digest
    monkeypatch.setattr(rerun, "file_digest", lambda file: "edited" if edited and file.suffix == ".py" else plain(file))
    monkeypatch.setattr(rerun, "run", edited.append)  # the stage's artefacts stay, and its source changes meanwhile
    rerun.main()
    # From then on every source counts as edited, so that the later stages are redone, too.
    assert edited == list(STAGES[2:])
    record = recorded(tmp_path / "copy/.stages" / f"{STAGES[2]}.json")
    assert record is not None and "edited" not in record["code"].values()
    capsys.readouterr()
    edited.clear()
    monkeypatch.setattr(
        rerun, "file_digest", lambda file: "edited" if file.name == "s1_term_recall.py" else plain(file)
    )
    rerun.main()
    assert STAGES[2] in edited
