"""Runs all loaders in order: Redis, Elasticsearch, the user tower in Triton, Feast, the ranking model in Triton.

    python -m offline_to_online            (or: make load)
    python -m offline_to_online --unless-loaded            (make cluster does)

Always all of them: that a store holds what was loaded is known only from reading it back, which is most of the time.
With --unless-loaded none, where every store says that it holds the load: a node that comes back gets what the others
have.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import replace

from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from offline_to_online.loader import LOADER_TIMEOUT
from online.callers.es_caller import ElasticsearchCaller
from online.callers.feast_caller import FeastCaller
from online.callers.promoted_versions import PromotedVersions
from online.callers.redis_stores import redis_caller
from online.callers.triton_caller import TritonCaller
from online.callers.types import ServiceUnavailable
from online.serving_data import ServingData

LOADERS = (
    "offline_to_online.recall.s1_user_to_redis",
    "offline_to_online.recall.s2_item_to_es",
    "offline_to_online.recall.s3_tower_to_triton",
    "offline_to_online.rank.s1_feature_to_feast",
    "offline_to_online.rank.s2_model_to_triton",
)


def is_loaded(settings: Settings) -> bool:
    """Whether each store says that it holds the load of the present artefacts."""
    expected = ServingData.load().expected
    try:
        served = PromotedVersions(settings, LOADER_TIMEOUT).served()
        expected = replace(expected, ranking_version=served)
        for caller in (redis_caller, ElasticsearchCaller, FeastCaller, TritonCaller):
            caller(settings, LOADER_TIMEOUT).ping(expected)
    except ServiceUnavailable as error:
        print(error)
        return False
    return True


def main() -> None:
    """Loader by loader; the first that fails ends it."""
    parser = argparse.ArgumentParser(
        prog="python -m offline_to_online", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--unless-loaded", action="store_true", help="do nothing where all stores hold the load")
    if parser.parse_args().unless_loaded and is_loaded(Settings()):
        print("all stores hold the load")
        return
    for name in LOADERS:
        print(f"{name}:", flush=True)
        began = time.monotonic()
        status = subprocess.run([sys.executable, "-m", name], cwd=ROOT, check=False).returncode
        if status:
            sys.exit(status)
        print(f"  {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    run_stage(main)
