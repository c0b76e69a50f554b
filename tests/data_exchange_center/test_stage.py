"""Establishes that a disk that is full or read-only is told in one sentence, and other faults keep their traceback."""

import errno
import shutil
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_exchange_center import catalogue
from data_exchange_center.commit import writing
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.__main__ import LEAST_ROOM, UNPACKED, check_room
from offline.preprocess.movielens import raw_data

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_is_a_sentence(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def stage() -> None:
        raise OSError(number, "", "some/file")

    with pytest.raises(SystemExit):
        run_stage(stage)
    told = capsys.readouterr().err
    assert told.startswith("error: some/file cannot be used: ") and "ARTEFACTS_DIR" in told
    assert told.count("\n") == 1


def test_another_fault_keeps_its_traceback() -> None:
    def stage() -> None:
        raise FileNotFoundError(errno.ENOENT, "", "some/file")

    with pytest.raises(FileNotFoundError):
        run_stage(stage)


def test_a_full_disk_is_known_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("ratings.dat", "movies.dat"):
        (data / name).write_text("")
    monkeypatch.setenv("DATA_DIR", str(data))
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path))
    check_room(raw_data(Settings()), tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(300_000, 0, 300_000))
    with pytest.raises(OSError) as full:
        check_room(raw_data(Settings()), tmp_path)
    assert full.value.errno == errno.ENOSPC and full.value.filename == str(tmp_path)
    # Parquet is packed.
    orders = tmp_path / "orders.parquet"
    orders.write_bytes(bytes(100))
    for packed, is_enough in ((LEAST_ROOM + 100 * UNPACKED, True), (LEAST_ROOM + 100 * UNPACKED - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=packed: Usage(free, 0, free))
        with nullcontext() if is_enough else pytest.raises(OSError):
            check_room(SimpleNamespace(files=[orders]), tmp_path)  # type: ignore[arg-type]


def test_a_model_that_finds_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch says so by a RuntimeError."""
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path))
    vectors = catalogue.USER_VECTORS

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(np, "save", failing)
    for free, expected in ((0, OSError), (1 << 30, RuntimeError)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(free, 0, free))
        with pytest.raises(expected), writing((vectors,)) as out:
            out.save(vectors, np.zeros((2, 2), np.float32))
        assert not list(vectors.file.parent.glob("*"))
