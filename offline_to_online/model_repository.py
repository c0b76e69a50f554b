"""Triton's model repository: the configuration, derived from the models' declaration, and the version folders."""

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2 as triton

from data_exchange_center.features import FeatureSet
from data_exchange_center.limits import TRITON_MAX_BATCH
from data_exchange_center.settings import Settings
from data_exchange_center.triton_models import TritonModel

DATATYPES = {"INT64": triton.TYPE_INT64, "FP32": triton.TYPE_FP32}
KEPT_VERSIONS = 2  # the new one, and the one that is served while the new one is loaded
MODEL_FILE = "model.onnx"


def model_configuration(
    model: TritonModel, features: FeatureSet, feature_hash: str, load: str, digest: str = "", side_by_side: int = 1
) -> str:
    """Triton's config.pbtxt, from the declaration of the model's tensors.

    What must change together with the model travels with it as parameters: a server that uses a new version a moment
    earlier or later than the others goes by that version's features.

    Where it stays as it is, Triton loads a new version alone. Where it changes, Triton loads all of them again, which
    holds requests up for a second; so the configuration of versions that are served side by side tells what they have
    in common.

    Source: Triton's message `ModelConfig`, as tritonclient ships it.

    Args:
        model: its tensors.
        features, feature_hash: that it was trained on.
        load: the digest of the load that it knows.
        digest: of its weights; none where there are several versions.
        side_by_side: how many versions are loaded, the newest ones.
    """
    parameters = {
        "columns": ",".join(features.columns),
        "feature_hash": feature_hash,
        "load_digest": load,
        **({"state_digest": digest} if digest else {}),
    }
    model = model.of(features)
    configuration = triton.ModelConfig(
        name=model.name,
        platform="onnxruntime_onnx",
        max_batch_size=TRITON_MAX_BATCH,
        input=[triton.ModelInput(name=t.name, data_type=DATATYPES[t.datatype], dims=t.shape) for t in model.inputs],
        output=[triton.ModelOutput(name=t.name, data_type=DATATYPES[t.datatype], dims=t.shape) for t in model.outputs],
        instance_group=[triton.ModelInstanceGroup(kind=triton.ModelInstanceGroup.KIND_CPU, count=1)],
        version_policy=triton.ModelVersionPolicy(latest=triton.ModelVersionPolicy.Latest(num_versions=side_by_side)),
        parameters={name: triton.ModelParameter(string_value=value) for name, value in parameters.items()},
    )
    return text_format.MessageToString(configuration)


def model_folder(settings: Settings, model: TritonModel) -> Path:
    """Where the model's versions lie."""
    return settings.artefacts / "online/triton" / model.name


def versions(folder: Path) -> list[int]:
    """The version folders, oldest first."""
    return sorted(int(version.name) for version in folder.glob("[0-9]*"))


def write_version(
    folder: Path, content: bytes, configuration: str, beside_model: Mapping[str, bytes] | None = None, after: int = 0
) -> int:
    """Adds a version to the repository; the version folder appears complete, or not at all.

    Args:
        folder: the model's.
        content: of its MODEL_FILE.
        configuration: of the model; where it is the present one, its file stays untouched.
        beside_model: other files of the version by name, which Triton does not look at.
        after: a number that the version's exceeds, beside those that are there.

    Returns:
        Its number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version = max([*versions(folder), after]) + 1
    beside = folder.parent / f".{folder.name}-{version}-{os.getpid()}"
    config, present = beside.with_suffix(".pbtxt"), folder / "config.pbtxt"
    beside.mkdir()
    try:
        for name, part in {MODEL_FILE: content, **(beside_model or {})}.items():
            (beside / name).write_bytes(part)
        config.write_text(configuration)
        beside.rename(folder / str(version))
        if not present.exists() or present.read_text() != configuration:
            os.replace(config, present)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        config.unlink(missing_ok=True)
    return version


def remove_versions(folder: Path, removed: Collection[int]) -> None:
    """Removes these versions; of one that was removed half Triton finds no model, and nobody else anything."""
    for version in removed:
        aside = folder.parent / f".{folder.name}-removed-{version}-{os.getpid()}"
        (folder / str(version)).rename(aside)
        shutil.rmtree(aside)


def remove_old_versions(folder: Path) -> None:
    """Removes all versions but the newest KEPT_VERSIONS."""
    remove_versions(folder, versions(folder)[:-KEPT_VERSIONS])
