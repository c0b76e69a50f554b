"""Exports DeepFM to ONNX, checks it, and makes Triton load it as a new version, without a restart.

    python -m offline_to_online.rank.s2_model_to_triton

The model repository lies under `online/triton` of the artefacts; `platform: "onnxruntime_onnx"` is the C++ backend in
the official image and services/triton_onnxruntime_backend.py in the native start. The configuration carries the
features' order and hash and the weights' digest, so that every caller of the model knows what it was trained on.
"""

import warnings

import torch

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.limits import TRITON_MAX_BATCH
from data_exchange_center.serving_names import TRITON_MODEL
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline_to_online.loader import LOADER_TIMEOUT, LoadError
from offline_to_online.rank.exported_model import (
    SCORE_TOLERANCE,
    compare_with_pytorch,
    example_inputs,
    state_digest,
    to_onnx,
    trained_model,
)
from offline_to_online.rank.model_repository import (
    model_configuration,
    model_folder,
    remove_old_versions,
    write_version,
)
from online.callers.triton_caller import TritonCaller

READS = (catalogue.DEEPFM_META, catalogue.DEEPFM_MODEL, catalogue.BLEND)
WRITES: Artefacts = ()


def main() -> None:
    """Export, compare, write, load, and score with the loaded model."""
    settings = Settings()
    meta = catalogue.DEEPFM_META.load()
    model = trained_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        content = to_onnx(model)
    difference = compare_with_pytorch(model, content)
    digest = state_digest(model)
    folder = model_folder(settings)
    weight = catalogue.BLEND.load().weight
    version = write_version(folder, content, model_configuration(meta.feature_hash, digest, weight))

    caller = TritonCaller(settings, LOADER_TIMEOUT)
    caller.load()
    sparse, dense = example_inputs(model, TRITON_MAX_BATCH)
    logits, served = caller.score(sparse.numpy(), dense.numpy())
    with torch.no_grad():
        expected = model(sparse, dense).squeeze(1).numpy()
    error = float(abs(logits - expected).max())
    if served.version != str(version) or not error <= SCORE_TOLERANCE:
        raise LoadError(
            f"Triton serves version {served.version}, whose scores differ by up to {error:.2g}; "
            f"version {version} was loaded."
        )
    remove_old_versions(folder)
    print(
        f"data set {meta.dataset}: {TRITON_MODEL} version {version} ({len(content) / 1e6:.1f} MB, weights {digest}) "
        f"is served by Triton; onnxruntime differs from PyTorch by {difference:.1g} at most"
    )


if __name__ == "__main__":
    run_stage(main)
