"""Runs all loaders in order: Redis, Elasticsearch, the user tower in Triton, Feast, the ranking model in Triton.

    python -m offline_to_online            (or: make load)

Always all of them: that a store holds what was loaded is known only from reading it back, which is most of the time.
"""

import subprocess
import sys
import time

from data_exchange_center.settings import ROOT
from data_exchange_center.stage import run_stage

LOADERS = (
    "offline_to_online.recall.s1_user_to_redis",
    "offline_to_online.recall.s2_item_to_es",
    "offline_to_online.recall.s3_tower_to_triton",
    "offline_to_online.rank.s1_feature_to_feast",
    "offline_to_online.rank.s2_model_to_triton",
)


def main() -> None:
    """Loader by loader; the first that fails ends it."""
    for name in LOADERS:
        print(f"{name}:", flush=True)
        began = time.monotonic()
        status = subprocess.run([sys.executable, "-m", name], cwd=ROOT, check=False).returncode
        if status:
            sys.exit(status)
        print(f"  {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    run_stage(main)
