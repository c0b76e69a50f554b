"""Exports the ranking model to ONNX, checks it, and makes Triton load it as a new version, without a restart.

    python -m offline_to_online.rank.s2_model_to_triton

The model repository lies under `online/triton` of the artefacts; `platform: "onnxruntime_onnx"` is the C++ backend in
the official image and services/triton_onnxruntime_backend.py in the native start. The configuration carries the
features' order and hash and the load's digest, so that every caller of the model knows what it was trained on.

Triton holds several versions of one load side by side; the same weights get no new one. Once each Triton computes what
PyTorch does, the version is served: with --beside it is only loaded, for offline_to_online/rank/promote.py to serve.
"""

import argparse

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline_to_online.exported_model import trained_ranker
from offline_to_online.loader import LOADER_TIMEOUT
from offline_to_online.ranking_versions import (
    add_version,
    served_version,
    stored_versions,
    switch,
    with_promoted,
)
from online.callers.promoted_versions import PromotedVersions
from online.callers.triton_caller import TritonCaller

READS = (
    catalogue.DATASET,
    catalogue.SEQUENCE_ITEM_VECTORS,
    catalogue.RANKER_META,
    catalogue.RANKER_MODEL,
    catalogue.RANKER_METRICS,
)
WRITES: Artefacts = ()


def main() -> None:
    """Exports, compares, loads, scores with the loaded model, and serves it."""
    parser = argparse.ArgumentParser(
        prog="python -m offline_to_online.rank.s2_model_to_triton",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--beside", action="store_true", help="load the version without serving it")
    is_beside, settings = parser.parse_args().beside, Settings()
    triton, pointer = TritonCaller(settings, LOADER_TIMEOUT), PromotedVersions(settings, LOADER_TIMEOUT)
    before = pointer.promoted()
    if not before and (newest := served_version(before, settings)) is not None:
        switch(pointer, before, (newest,))  # else the new one would be served before it is compared
        before = (newest,)
    document, metrics = catalogue.RANKER_META.load(), catalogue.RANKER_METRICS.load()
    ndcg = metrics.test.ranker.ndcg_at_10
    version, sentence = add_version(document, trained_ranker(), settings, triton, before, ndcg)
    if not is_beside and before[-1:] != (version,):
        switch(pointer, before, with_promoted(before, version, stored_versions(settings)))
    print(f"data set {document.dataset}: {sentence}")


if __name__ == "__main__":
    run_stage(main)
