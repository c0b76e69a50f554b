"""Promotes versions of the ranking model and rolls them back under load; every list must be of the version it names.

    python -m benchmarks.speed.promotions          (while `make run` is up)

Beside the served version it loads one of other weights, asks for the users' lists of either, and then switches between
the two while clients request lists: by the pointer alone, and at the end by the verbs, with their check.
Writes promotions.json under RUN_DIR and ends with status 1 when a request fails, more than MOST_DEGRADED of the lists
are degraded, or one holds the scores of another version than it names. The altered version is gone afterwards, the
served one as it was.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.report import machine, write_report
from benchmarks.speed.load import Outcome, ask
from benchmarks.userids import served_userids
from data_exchange_center import catalogue
from data_exchange_center.external_ids import ExternalId
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.triton_models import RANKER
from offline.rank.ranker import Ranker
from offline_to_online.exported_model import TrainedModel, trained_ranker
from offline_to_online.loader import LOADER_TIMEOUT
from offline_to_online.model_repository import model_folder, remove_versions
from offline_to_online.ranking_versions import add_version, switch
from online.callers.promoted_versions import PromotedVersions
from online.callers.triton_caller import TritonCaller
from online.served_version import LOOK_SECONDS

CLIENTS = 16
SWITCHES = 40
USERS = 400
PAUSE = 0.75  # seconds between two switches
MOST_DEGRADED = 0.001  # of the lists: so many clients keep every core busy, and a service may once be late
TOLERANCE = 1e-5  # between scores of one version in two responses
PROMOTE = "offline_to_online.rank.promote"

Verbs = Sequence[list[str]]
Scores = dict[int | str, float]  # of a list, by item


def altered_ranker() -> TrainedModel:
    """The trained ranking model with a rank net whose scores and order are others."""
    model = trained_ranker()
    assert isinstance(model.module, Ranker)
    last = model.module.rank.mlp[-1]
    assert isinstance(last, torch.nn.Linear)
    noise = torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        last.weight.add_(noise * last.weight.abs().mean())
        last.bias.add_(0.25)
    return model


@dataclass
class Looked:
    """What the clients' responses show of the versions.

    Attributes:
        known: the scores of each user's list, by version.
        lists: how many lists named each version.
        mixed: whole lists that hold a score of another version than the one that they name.
        degraded: lists that are.
        late: of each switch, seconds until the last request that was sent after it and scored by the version before.
    """

    known: dict[str, dict[ExternalId, Scores]] = field(default_factory=dict)
    lists: Counter[str] = field(default_factory=Counter)
    mixed: list[str] = field(default_factory=list)
    degraded: int = 0
    late: list[float] = field(default_factory=list)
    served: str = ""
    switched: float = 0.0

    def look(self, user: ExternalId, began: float, content: dict[str, Any]) -> None:
        """Takes up one response."""
        version, scores = content.get("model_version") or "none", scores_of(content)
        self.lists[version] += 1
        self.degraded += "degraded" in content
        own = self.known.get(version, {}).get(user, {})
        wrong = [item for item, score in scores.items() if not abs(score - own.get(item, np.nan)) <= TOLERANCE]
        if (wrong or not scores) and "degraded" not in content:
            self.mixed.append(f"user {user}, version {version}, items {wrong[:3]}")
        if self.served and version != self.served and began > self.switched:
            self.late[-1] = max(self.late[-1], began - self.switched)

    def switch_to(self, version: str) -> None:
        """Notes that another version is served from now on."""
        self.late.append(0.0)
        self.served, self.switched = version, time.perf_counter()


def scores_of(content: dict[str, Any]) -> Scores:
    """The scores of a list."""
    return {line["itemid"]: line["score"] for line in content["items"]}


def known_lists(settings: Settings, users: list[ExternalId], version: str) -> dict[ExternalId, Scores]:
    """Each user's list by the version that is served now.

    Raises:
        AssertionError: a list is of another version.
    """
    found: dict[ExternalId, Scores] = {}

    def look(user: ExternalId, _: float, content: dict[str, Any]) -> None:
        assert content["model_version"] == version, (user, content["model_version"], version)
        found[user] = scores_of(content)

    ask(settings, users, 1, iter([True] * len(users) + [False]).__next__, look)
    return found


@contextmanager
def another_version(settings: Settings) -> Iterator[tuple[int, int]]:
    """The served version and, within the block, one of other weights; which is served is as before at the end."""
    triton, pointer = TritonCaller(settings, LOADER_TIMEOUT), PromotedVersions(settings, LOADER_TIMEOUT)
    before = pointer.promoted()
    other, _ = add_version(catalogue.RANKER_META.load(), altered_ranker(), settings, triton, before)
    try:
        yield before[-1], other
    finally:
        switch(pointer, pointer.promoted(), before)
        time.sleep(4 * LOOK_SECONDS)  # until no request is scored by it
        remove_versions(model_folder(settings, RANKER), [other])
        triton.load(RANKER)


def switch_under_load(
    settings: Settings,
    users: list[ExternalId],
    clients: int,
    pair: tuple[int, int],
    switches: int,
    verbs: Verbs,
    looked: Looked,
) -> tuple[Outcome, int]:
    """Switches between two versions, the first of which is served, while clients request lists.

    Returns:
        What the clients saw, and how many of the verbs ended well.
    """
    pointer, loading, outcomes = PromotedVersions(settings, LOADER_TIMEOUT), threading.Event(), list[Outcome]()
    loading.set()
    load = threading.Thread(target=lambda: outcomes.append(ask(settings, users, clients, loading.is_set, looked.look)))
    load.start()
    done = 0
    try:
        for turn in range(switches):
            time.sleep(PAUSE)
            before, version = pointer.promoted(), pair[(turn + 1) % 2]
            # Every second switch goes back, as a rollback does.
            switch(pointer, before, (*before, version) if version == pair[1] else before[:-1])
            looked.switch_to(str(version))
        time.sleep(PAUSE)
        looked.served = ""  # when exactly a verb switches is its own affair
        for verb in verbs:
            done += subprocess.run([sys.executable, "-m", PROMOTE, *verb], cwd=ROOT, check=False).returncode == 0
    finally:
        loading.clear()
        load.join()
    return outcomes[0], done


def measure(
    settings: Settings,
    users: list[ExternalId],
    pair: tuple[int, int],
    switches: int,
    verbs: Verbs = (),
    clients: int = CLIENTS,
) -> dict[str, Any]:
    """What is reported; the version that is served is as it was.

    Args:
        settings: of the running stack.
        users: whose lists are requested.
        pair: as from `another_version`.
        switches: by the pointer alone, an even number.
        verbs: the arguments of offline_to_online/rank/promote.py, one call after the other.
        clients: how many request lists at once.
    """
    pointer, looked = PromotedVersions(settings, LOADER_TIMEOUT), Looked()
    before = pointer.promoted()
    for version, promoted in ((pair[1], (*before, pair[1])), (pair[0], before)):
        switch(pointer, pointer.promoted(), promoted)
        time.sleep(4 * LOOK_SECONDS)
        looked.known[str(version)] = known_lists(settings, users, str(version))
    outcome, ended_well = switch_under_load(settings, users, clients, pair, switches, verbs, looked)
    first, second = (looked.known[str(version)] for version in pair)
    return {
        "clients": clients,
        "switches": switches,
        "verbs": [" ".join(verb) for verb in verbs],
        "verbs_that_ended_well": ended_well,
        "lists_by_version": dict(looked.lists),
        "lists_of_another_version_than_named": len(looked.mixed),
        "mixed": looked.mixed[:3],
        "degraded_lists": looked.degraded,
        "users": len(users),
        "users_whose_lists_differ": sum(list(first[user]) != list(second[user]) for user in users),
        "late_p50_ms": round(float(np.median(looked.late)) * 1000, 1),
        "late_most_ms": round(max(looked.late) * 1000, 1),
        **outcome.summary(),
    }


def is_good(report: dict[str, Any]) -> bool:
    """Whether every request got a list of the version that it names, nearly all whole, and both verbs ended well."""
    faults = ("lists_of_another_version_than_named", "responses_without_items", "connection_errors")
    ended_well = report["verbs_that_ended_well"] == len(report["verbs"])
    whole = report["degraded_lists"] <= MOST_DEGRADED * report["requests"]
    versions = set(report["lists_by_version"]) - {"none"}  # a list that Triton had no part in
    answered = set(report["statuses"]) == {200} and ended_well and whole and len(versions) == 2
    return answered and not any(report[fault] for fault in faults)


def main() -> None:
    """Measures, and writes the report."""
    settings, users = Settings(), served_userids()
    np.random.default_rng(0).shuffle(users)
    report: dict[str, Any] = {"dataset": catalogue.DATASET.load().dataset, "machine": machine()}
    with another_version(settings) as pair:
        verbs = ["--version", str(pair[1])], ["--rollback"]
        report |= measure(settings, users[:USERS], pair, SWITCHES, verbs)
    write_report(settings, "promotions", report)
    print(json.dumps(report, indent=2))
    if not is_good(report):
        print(
            "error: not every request got a list of the version that it names, or too few were whole.", file=sys.stderr
        )
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
