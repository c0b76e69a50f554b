"""Establishes that a model version appears whole or not at all, old ones go, and a wrong export is refused."""

from pathlib import Path

import pytest
import torch

from offline_to_online.loader import LoadError
from offline_to_online.rank import model_repository
from offline_to_online.rank.exported_model import compare_with_pytorch, first_different_weight, to_onnx, trained_model
from offline_to_online.rank.model_repository import remove_old_versions, versions, write_version
from tests.conftest import Offline


def test_versions_count_upwards_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "ml_rec"
    assert [write_version(folder, f"model {n}".encode(), f"config {n}") for n in range(1, 12)] == list(range(1, 12))
    remove_old_versions(folder)
    assert versions(folder) == [10, 11]  # by number, not by name
    assert (folder / "11/model.onnx").read_text() == "model 11" and (folder / "config.pbtxt").read_text() == "config 11"
    assert not list(tmp_path.glob(".*"))


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


@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
def test_an_export_of_other_weights_is_refused(artefacts: Offline, tmp_path: Path) -> None:
    model = trained_model()
    content = to_onnx(model)
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    assert compare_with_pytorch(model, content) < 1e-5 and first_different_weight(model, file) is None
    with torch.no_grad():
        name, weight = next(iter(model.named_parameters()))
        weight += 1
    with pytest.raises(LoadError, match="differs from PyTorch"):
        compare_with_pytorch(model, content)
    assert name in str(first_different_weight(model, file))
