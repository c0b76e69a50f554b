"""Exports the ranking model to ONNX, checks it, and makes Triton load it as a new version, without a restart.

    python -m offline_to_online.rank.s2_model_to_triton

The model repository lies under `online/triton` of the artefacts; `platform: "onnxruntime_onnx"` is the C++ backend in
the official image and services/triton_onnxruntime_backend.py in the native start. The configuration carries the
features' order and hash and the weights' digest, so that every caller of the model knows what it was trained on.
"""

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline_to_online.exported_model import load_into_triton, trained_ranker
from offline_to_online.loader import LOADER_TIMEOUT
from online.callers.triton_caller import TritonCaller

READS = (catalogue.RANKER_META, catalogue.RANKER_MODEL)
WRITES: Artefacts = ()


def main() -> None:
    """Exports, compares, loads, and scores with the loaded model."""
    settings = Settings()
    loaded = load_into_triton(trained_ranker(), settings, TritonCaller(settings, LOADER_TIMEOUT))
    print(f"data set {catalogue.RANKER_META.load().dataset}: {loaded}")


if __name__ == "__main__":
    run_stage(main)
