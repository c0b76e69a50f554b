"""Triton's model repository: the configuration, derived from the models' declaration, and the version folders."""

import os
import shutil
from pathlib import Path

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2 as triton

from data_exchange_center.features import FeatureSet
from data_exchange_center.limits import TRITON_MAX_BATCH
from data_exchange_center.settings import Settings
from data_exchange_center.triton_models import TritonModel

DATATYPES = {"INT64": triton.TYPE_INT64, "FP32": triton.TYPE_FP32}
KEPT_VERSIONS = 2  # the new one, and the one that is served while the new one is loaded


def model_configuration(model: TritonModel, features: FeatureSet, feature_hash: str, digest: str, load: str) -> str:
    """Triton's config.pbtxt, from the declaration of the model's tensors.

    What must change together with the model travels with it as parameters: a server that uses a new version a moment
    earlier or later than the others goes by that version's features.

    Source: Triton's message `ModelConfig`, as tritonclient ships it.
    """
    parameters = {
        "columns": ",".join(features.columns),
        "feature_hash": feature_hash,
        "state_digest": digest,
        "load_digest": load,
    }
    model = model.of(features)
    configuration = triton.ModelConfig(
        name=model.name,
        platform="onnxruntime_onnx",
        max_batch_size=TRITON_MAX_BATCH,
        input=[triton.ModelInput(name=t.name, data_type=DATATYPES[t.datatype], dims=t.shape) for t in model.inputs],
        output=[triton.ModelOutput(name=t.name, data_type=DATATYPES[t.datatype], dims=t.shape) for t in model.outputs],
        instance_group=[triton.ModelInstanceGroup(kind=triton.ModelInstanceGroup.KIND_CPU, count=1)],
        version_policy=triton.ModelVersionPolicy(latest=triton.ModelVersionPolicy.Latest(num_versions=1)),
        parameters={name: triton.ModelParameter(string_value=value) for name, value in parameters.items()},
    )
    return text_format.MessageToString(configuration)


def model_folder(settings: Settings, model: TritonModel) -> Path:
    """Where the model's versions lie."""
    return settings.artefacts / "online/triton" / model.name


def versions(folder: Path) -> list[int]:
    """The version folders, oldest first."""
    return sorted(int(version.name) for version in folder.glob("[0-9]*"))


def write_version(folder: Path, content: bytes, configuration: str) -> int:
    """Adds a version to the repository; the version folder appears complete, or not at all.

    Returns:
        Its number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version = max(versions(folder), default=0) + 1
    beside = folder.parent / f".{folder.name}-{version}-{os.getpid()}"
    beside.mkdir()
    try:
        (beside / "model.onnx").write_bytes(content)
        config = beside.with_suffix(".pbtxt")
        config.write_text(configuration)
        beside.rename(folder / str(version))
        os.replace(config, folder / "config.pbtxt")
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return version


def remove_old_versions(folder: Path) -> None:
    """Removes all versions but the newest KEPT_VERSIONS."""
    for old in versions(folder)[:-KEPT_VERSIONS]:
        shutil.rmtree(folder / str(old))
