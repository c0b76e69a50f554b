"""Triton's model repository: the configuration, derived from the features' declaration, and the version folders."""

import os
import shutil
from pathlib import Path

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2 as triton

from data_exchange_center.features import COLUMNS, DENSE, SPARSE
from data_exchange_center.limits import TRITON_MAX_BATCH
from data_exchange_center.serving_names import TRITON_DENSE, TRITON_MODEL, TRITON_OUTPUT, TRITON_SPARSE
from data_exchange_center.settings import Settings

KEPT_VERSIONS = 2  # the new one, and the one that is served while the new one is loaded


def model_configuration(feature_hash: str, digest: str, blend_weight: float) -> str:
    """Triton's config.pbtxt, from the declaration of the features.

    What must change together with the model travels with it as parameters: a server that uses a new version a moment
    earlier or later than the others goes by that version's features and blend weight.

    Source: Triton's message `ModelConfig`, as tritonclient ships it.
    """
    parameters = {
        "columns": ",".join(COLUMNS),
        "feature_hash": feature_hash,
        "state_digest": digest,
        "blend_weight": repr(blend_weight),
    }
    configuration = triton.ModelConfig(
        name=TRITON_MODEL,
        platform="onnxruntime_onnx",
        max_batch_size=TRITON_MAX_BATCH,
        input=[
            triton.ModelInput(name=TRITON_SPARSE, data_type=triton.TYPE_INT64, dims=[len(SPARSE)]),
            triton.ModelInput(name=TRITON_DENSE, data_type=triton.TYPE_FP32, dims=[len(DENSE)]),
        ],
        output=[triton.ModelOutput(name=TRITON_OUTPUT, data_type=triton.TYPE_FP32, dims=[1])],
        instance_group=[triton.ModelInstanceGroup(kind=triton.ModelInstanceGroup.KIND_CPU, count=1)],
        version_policy=triton.ModelVersionPolicy(latest=triton.ModelVersionPolicy.Latest(num_versions=1)),
        parameters={name: triton.ModelParameter(string_value=value) for name, value in parameters.items()},
    )
    return text_format.MessageToString(configuration)


def model_folder(settings: Settings) -> Path:
    """Where the model's versions lie."""
    return settings.artefacts / "online/triton" / TRITON_MODEL


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
    beside = folder.parent / f".{TRITON_MODEL}-{version}-{os.getpid()}"
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
