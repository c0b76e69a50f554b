"""Establishes that what is wrong with the raw data ends a stage with one sentence, and leaves nothing behind."""

from pathlib import Path

from tests.conftest import run_module


def test_a_stage_shows_the_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """The whole way: status 1, one line, no traceback, no artefact."""
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\noops\n")
    (tmp_path / "users.dat").write_text("1::M::1::10::48067\n")
    (tmp_path / "movies.dat").write_text("1::A::Drama\n")
    env = {"DATA_DIR": str(tmp_path), "ARTEFACTS_DIR": str(tmp_path / "artefacts")}
    done = run_module("offline.preprocess.s1_data_split", **env)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "line 2" in done.stderr and "Traceback" not in done.stderr
    assert not [file for file in tmp_path.glob("artefacts/**/*") if file.is_file()]

    done = run_module("offline.preprocess.s1_data_split", **{**env, "DATA_DIR": str(tmp_path / "nowhere")})
    assert done.returncode == 1 and "DATA_DIR must name a folder" in done.stderr
    done = run_module("offline.preprocess.s2_term_trans", **env)
    assert done.returncode == 1 and "run that stage" in done.stderr and "s1_data_split.py" in done.stderr
