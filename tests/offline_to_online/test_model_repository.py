"""Establishes that a model version appears whole or not at all, old ones go, and a wrong export is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_exchange_center import catalogue
from data_exchange_center.artefact import ArtefactError
from offline_to_online import model_repository
from offline_to_online.exported_model import (
    TrainedModel,
    compare_with_pytorch,
    first_different_weight,
    to_onnx,
    trained_ranker,
    trained_tower,
)
from offline_to_online.loader import LoadError
from offline_to_online.model_repository import remove_old_versions, remove_versions, versions, write_version
from tests.conftest import Offline


def test_versions_count_upwards_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "ml_rec"
    assert [write_version(folder, f"model {n}".encode(), f"config {n}") for n in range(1, 12)] == list(range(1, 12))
    remove_old_versions(folder)
    assert versions(folder) == [10, 11]  # by number, not by name
    assert (folder / "11/model.onnx").read_text() == "model 11" and (folder / "config.pbtxt").read_text() == "config 11"
    assert not list(tmp_path.glob(".*"))


def test_a_configuration_that_stays_is_not_written_again(tmp_path: Path) -> None:
    """By its time Triton tells that it has changed, and would load every version again."""
    folder = tmp_path / "ml_rec"
    write_version(folder, b"model", "config")
    written = (folder / "config.pbtxt").stat()
    assert write_version(folder, b"other", "config", {"version.json": b"{}"}, after=7) == 8
    assert (folder / "config.pbtxt").stat().st_mtime_ns == written.st_mtime_ns
    assert sorted(file.name for file in (folder / "8").iterdir()) == ["model.onnx", "version.json"]
    remove_versions(folder, [1])
    assert versions(folder) == [8] and not list(tmp_path.glob(".*"))


def test_a_version_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ml_rec"
    write_version(folder, b"model", "config")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(model_repository.Path, "rename", fail)
    with pytest.raises(OSError, match="disk full"):
        write_version(folder, b"other", "other")
    assert versions(folder) == [1] and (folder / "config.pbtxt").read_text() == "config"
    assert not [path for path in tmp_path.glob(".*") if path.is_dir()]


@pytest.mark.parametrize("trained", [trained_ranker, trained_tower])
def test_an_export_of_other_weights_is_refused(
    trained: Callable[[], TrainedModel], artefacts: Offline, tmp_path: Path
) -> None:
    model = trained()
    content = to_onnx(model)
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    assert compare_with_pytorch(model, content) < 1e-5 and first_different_weight(model, file) is None
    digest = model.digest
    with torch.no_grad():
        name, weight = next((n, w) for n, w in model.module.named_parameters() if "mlp" in n or "feed_forward" in n)
        weight += 1
    with pytest.raises(LoadError, match="differs from PyTorch"):
        compare_with_pytorch(model, content)
    assert name in str(first_different_weight(model, file)) and model.digest != digest


def test_a_tower_of_other_ids_is_refused(artefacts: Offline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "artefacts"
    shutil.copytree(artefacts.artefacts, copy, ignore=shutil.ignore_patterns("online"))
    monkeypatch.setenv("ARTEFACTS_DIR", str(copy))
    meta = json.loads(catalogue.TOWER_META.file.read_text())
    catalogue.TOWER_META.file.write_text(json.dumps({**meta, "id_digest": "another"}))
    with pytest.raises(ArtefactError, match="is of other ids than the data set's: run offline/recall/s3"):
        trained_tower()
