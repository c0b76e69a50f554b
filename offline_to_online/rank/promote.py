"""Serves another version of the ranking model, at once and without a failed request, and checks what is served.

    python -m offline_to_online.rank.promote --version 3          (or: make promote VERSION=3)
    python -m offline_to_online.rank.promote --rollback          (or: make rollback)
    python -m offline_to_online.rank.promote          (or: make promote, which lists the versions)

Triton holds the versions side by side, and Redis tells the web servers which one scores: to switch is to write that one
value. A version that is not there, or not of what the stores hold, is refused before anything changes. The consistency
check runs afterwards; where it finds a difference, the version before is served again and the status is 1.
"""

import argparse
import subprocess
import sys

from tabulate import tabulate

from data_exchange_center.serving_load import load_digest
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.triton_models import RANKER
from offline_to_online.loader import LOADER_TIMEOUT, LoadError
from offline_to_online.ranking_versions import (
    check_can_serve,
    served_version,
    stored_versions,
    switch,
    with_promoted,
)
from online.callers.promoted_versions import PromotedVersions
from online.callers.triton_caller import TritonCaller

CHECK = "offline_to_online.rank.s3_check_offline_and_online"


def table(settings: Settings, pointer: PromotedVersions, triton: TritonCaller) -> str:
    """The versions: number, when loaded, data set, digest of the weights, metric, and what becomes of it."""
    served, load = served_version(pointer.promoted(), settings), load_digest()
    rows = []
    for version, told in stored_versions(settings).items():
        if told.load_digest != load:
            state = "of another load"
        elif not all(node.is_ready(RANKER, str(version)) for node in triton.each):
            state = "not loaded"
        else:
            state = "served" if version == served else "loaded"
        rows.append([version, told.loaded_at, told.dataset, told.state_digest, told.ndcg_at_10, state])
    headers = ["version", "loaded at", "data set", "weights", "NDCG@10 on test", ""]
    return tabulate(rows, headers, floatfmt=".4f", missingval="-")


def check_passes() -> bool:
    """Whether the consistency check finds no difference; it prints what it does."""
    return subprocess.run([sys.executable, "-m", CHECK, "--beside-requests"], cwd=ROOT, check=False).returncode == 0


def serve(version: int, before: tuple[int, ...], after: tuple[int, ...], pointer: PromotedVersions) -> None:
    """Switches, checks, and switches back unless the check passes.

    Args:
        version: the one that is served then.
        before, after: the promoted versions.
        pointer: what holds them.

    Raises:
        LoadError: somebody else switched meanwhile, or the check failed.
    """
    switch(pointer, before, after)
    print(f"{RANKER.name} version {version} is served", flush=True)
    passes = False
    try:
        passes = check_passes()
    finally:  # also where the check was broken off
        if not passes:
            switch(pointer, after, before)
    if not passes:
        again = f"version {before[-1]}" if before else "the newest version"
        raise LoadError(f"the consistency check failed with version {version}: {again} is served again.")


def promote(version: int, settings: Settings, pointer: PromotedVersions, triton: TritonCaller) -> None:
    """Serves a version.

    Raises:
        LoadError: it cannot be served, or the check failed; what was served is served still.
    """
    check_can_serve(version, settings, triton)
    before = pointer.promoted()
    if before and before[-1] == version:
        print(f"{RANKER.name} version {version} is served already")
        return
    if not before and (newest := served_version(before, settings)) is not None:
        switch(pointer, before, (newest,))  # what was served without having been promoted: a rollback returns to it
        before = (newest,)
    serve(version, before, with_promoted(before, version, stored_versions(settings)), pointer)


def rollback(settings: Settings, pointer: PromotedVersions, triton: TritonCaller) -> None:
    """Serves the version that was served before the present one.

    Raises:
        LoadError: there is none, or it cannot be served, or the check failed; what was served is served still.
    """
    before, stored = pointer.promoted(), stored_versions(settings)
    earlier = tuple(version for version in before[:-1] if version in stored and version != before[-1])
    if not earlier:
        raise LoadError("no version was served before the present one: `make promote` lists what there is.")
    check_can_serve(earlier[-1], settings, triton)
    serve(earlier[-1], before, earlier, pointer)


def main() -> None:
    """Promotes, rolls back, or lists the versions."""
    parser = argparse.ArgumentParser(
        prog="python -m offline_to_online.rank.promote",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, help="the version to be served")
    which.add_argument("--rollback", action="store_true", help="serve the version before the present one")
    arguments, settings = parser.parse_args(), Settings()
    pointer, triton = PromotedVersions(settings, LOADER_TIMEOUT), TritonCaller(settings, LOADER_TIMEOUT)
    if arguments.rollback:
        rollback(settings, pointer, triton)
    elif arguments.version is not None:
        promote(arguments.version, settings, pointer, triton)
    else:
        print(table(settings, pointer, triton))


if __name__ == "__main__":
    run_stage(main)
