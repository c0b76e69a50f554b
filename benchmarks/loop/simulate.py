"""Rounds of the loop with the generator's users: serve, look, rate by true taste, log, retrain.

    python -m benchmarks.loop.simulate          (or: make simulate)

On a stack of its own, with a generated data set whose users have few ratings, so that there is something to learn. In
each round

1. every user asks the real server for a list;
2. goes on by themselves, by the generator's own step, which nothing that was shown changes: what they like there are
   the true likes of the round. The lists are evaluated against them, and, without the chance of one such walk, against
   how often each item is expected among them;
3. looks at the list, at its first places the most, and rates what they choose by their true taste;
4. all of it is sent as events, those of the list with the id of its request; `make retrain` drains the log, fits, asks
   the gate, promotes and loads.

After the last retraining a last round of lists is evaluated. Beside the served lists stand those of the first models,
never retrained, whose users are as up to date; the oracle's, a ceiling that no model passes; and those of a shop that
shows what is popular alone: its users act by the same tastes, its counts grow by what it shows, and its lists come to
be the same few items. Writes simulate.json, simulate.md and charts/loop.png.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loop.contender import impressions_of, lists_of, model_after
from benchmarks.loop.loop_chart import draw_loop
from benchmarks.loop.people import LIST_LENGTH, Lists, People, Rated
from benchmarks.loop.replay import count_again, kept_out
from benchmarks.loop.shop import Shop, send
from benchmarks.quality.comparison import difference, summary
from benchmarks.quality.list_metrics import accuracy
from benchmarks.quality.tables import with_interval
from benchmarks.report import charts_folder, machine, measured_on, read_report, table, value_in, write_report
from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, Float64Array
from data_exchange_center.columns import Column
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from offline.metrics import Bootstrap
from offline.preprocess.readers.recognise import recognise
from offline.preprocess.readers.with_events import WithEvents
from offline.preprocess.splitting import split_users
from offline.preprocess.synthetic.files import END, generate
from offline.preprocess.synthetic.oracle import ORACLE_FILE, load_truth
from offline.preprocess.synthetic.scale import Scale
from online.serving_data import ServingData
from testkit.stack import in_force, settings_of_its_own

# A young shop: 30 ratings a user, and a catalogue that they do not use up within a few rounds.
SCALE = Scale(users=1_000, items=3_000, ratings=30_000, max_userid=1_000, max_itemid=3_000)
ROUNDS = 3
ROUND_SECONDS = 7 * 86_400
LOG_SECONDS = 1.0  # after which the server has logged what it has shown
RECALL = f"recall@{LIST_LENGTH}"
EXPECTED = f"expected {RECALL}"
SERVED, FIRST, ORACLE, POPULAR = SYSTEMS = ("recommender", "never retrained", "oracle", "popularity alone")

Evaluated = dict[str, dict[str, Float64Array]]  # [users] by system and metric


def run(*command: str) -> int:
    """Runs a module as a script of its own; returns its status."""
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=dict(os.environ), check=False).returncode


def start() -> None:
    """Fits, starts the servers, loads.

    Raises:
        SystemExit: a step fails; it has said why.
    """
    for step in (("offline",), ("services", "start"), ("offline_to_online",), ("services", "serve")):
        if status := run(*step):
            sys.exit(status)


class Popularity:
    """A shop that shows what is popular alone, to people of its own with the same tastes."""

    def __init__(self, people: People) -> None:
        """Counts what was liked until now."""
        self.people = people
        self._positives = np.zeros(len(people.truth.itemid), np.int64)
        impressions = catalogue.OFFLINE_IMPRESSIONS.load([Column.ITEMID, Column.LABEL])
        liked = impressions[Column.ITEMID].to_numpy()[impressions[Column.LABEL].to_numpy() == 1]
        np.add.at(self._positives, np.searchsorted(people.truth.itemid, liked), 1)

    def lists(self) -> Lists:
        """What is shown."""
        return self.people.best(self._positives)

    def take(self, rated: Rated) -> None:
        """What is rated comes into the counts."""
        np.add.at(self._positives, rated.item[rated.liked], 1)


def recall(lists: Lists, alone: Rated, people: People) -> Float64Array:
    """[users] Recall of the lists against what users like by themselves; NaN for those who like nothing."""
    relevant: dict[int, list[int]] = defaultdict(list)
    liked = alone.liked
    for user, item in zip(people.userids[alone.user[liked]], people.truth.itemid[alone.item[liked]], strict=True):
        relevant[int(user)].append(int(item))
    users = sorted(relevant)
    values = np.full(len(people.userids), np.nan)
    values[np.searchsorted(people.userids, users)] = accuracy(lists, relevant, users)[RECALL]
    return values


def coverage(lists: Lists, items: int) -> float:
    """The share of the catalogue that stands in some list."""
    return len({item for own in lists.values() for item in own[:LIST_LENGTH]}) / items


def evaluated(lists: Lists, expected: Float32Array, alone: Rated, people: People) -> dict[str, Float64Array]:
    """[users] both metrics of lists."""
    return {EXPECTED: people.found(lists, expected), RECALL: recall(lists, alone, people)}


def lists_of_the_first(first: Path, settings: Settings) -> Lists:
    """The lists of the models that were never retrained, on arrays; the users are as they are now.

    Args:
        first: root of their artefacts.
        settings: of the stack, whose drained events are what people have done since.
    """
    data = recognise(settings.raw_data, "")
    events = catalogue.EVENT_RATINGS.file
    ratings = (WithEvents(data, events) if events.exists() else data).ratings()
    with in_force({"ARTEFACTS_DIR": str(first)}):
        serving = ServingData.load()
        backends = model_after(impressions_of(split_users(ratings, 0, data.scale)), serving)
        return lists_of(backends, serving, LIST_LENGTH)


def one_round(
    number: int, shop: Shop, people: People, popularity: Popularity, never_retrained: Lists
) -> tuple[dict[str, Any], Evaluated]:
    """Lists, their evaluation, and what people do; returns what is reported, and the metrics of each system."""
    expected, elsewhere = people.expected(), popularity.people.expected()
    lists: dict[str, Lists] = {
        SERVED: shop.lists(people.userids.tolist(), number),
        FIRST: never_retrained,
        ORACLE: people.best(expected),
        POPULAR: popularity.lists(),
    }
    alone, alone_elsewhere = people.go_on(), popularity.people.go_on()
    metrics = {name: evaluated(lists[name], expected, alone, people) for name in (SERVED, FIRST, ORACLE)}
    metrics[POPULAR] = evaluated(lists[POPULAR], elsewhere, alone_elsewhere, popularity.people)
    acted = people.look(lists[SERVED])
    events = send(shop, people, (acted, alone), END + (number + 1) * ROUND_SECONDS, number)
    for rated in (alone_elsewhere, popularity.people.look(lists[POPULAR])):
        popularity.take(rated)
    bootstrap = Bootstrap(people.userids, number)
    gain = {name: difference(values, metrics[FIRST][name], bootstrap) for name, values in metrics[SERVED].items()}
    report: dict[str, Any] = {
        "round": number,
        "gain_over_never_retrained": gain,
        "systems": {name: summary(values, bootstrap) for name, values in metrics.items()},
        "coverage": {name: coverage(own, len(people.truth.itemid)) for name, own in lists.items()},
        "events": events,
        "events_from_lists": len(acted.user),
        "liked_share_of_list_events": float(acted.liked.mean()) if len(acted.user) else 0.0,
    }
    return report, metrics


def simulate(settings: Settings, rounds: int, seed: int, first: Path) -> dict[str, Any]:
    """The report of some rounds, on the running stack of the settings; `first` is a copy of its first artefacts."""
    truth, kept = load_truth(settings.raw_data / ORACLE_FILE), kept_out()
    count_again(kept)  # as after each retraining: the server knows all that people have rated
    last = {user: [row.itemid for row in rows] for user, rows in kept.items()}
    people, shop = People(truth, last, seed), Shop(settings)
    popularity = Popularity(People(truth, last, seed))
    report: dict[str, Any] = {"rounds": []}
    before: Evaluated | None = None
    for number in range(rounds + 1):
        print(f"round {number} ...", flush=True)
        shop.wait()
        of_round, metrics = one_round(number, shop, people, popularity, lists_of_the_first(first, settings))
        if before is not None:
            of_round["gain"] = {
                name: difference(values, before[SERVED][name], Bootstrap(people.userids, number))
                for name, values in metrics[SERVED].items()
            }
        before = metrics
        if number < rounds:
            time.sleep(LOG_SECONDS)
            status = run("benchmarks.loop.retrain")
            gate = read_report(settings, "retrain") or {}
            of_round["promoted"], of_round["gate"] = not status, gate.get("metrics")
            of_round["log"] = catalogue.LOG_ROWS.load().model_dump()
        report["rounds"].append(of_round)
        print(json.dumps(of_round["systems"]), flush=True)
    return report


def tables(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    parts, rounds = [measured_on(report)], report["rounds"]
    for metric in (EXPECTED, RECALL):
        rows: list[list[object]] = []
        for one in rounds:
            cells = [with_interval(one["systems"][name][metric]) for name in SYSTEMS]
            gains = [one.get(name, {}).get(metric) for name in ("gain", "gain_over_never_retrained")]
            gained = [value_in(gain["value"], gain["interval"], "+.3f") if gain else "" for gain in gains]
            rows.append([one["round"], *cells, *gained])
        headers = ["retrainings", *SYSTEMS, "gain on the round before", "gain over never retrained"]
        parts += [f"{metric.capitalize()}:", table(rows, headers)]
    rows = [
        [one["round"], *(f"{one['coverage'][name]:.0%}" for name in SYSTEMS), one["events"], _gate(one)]
        for one in rounds
    ]
    parts += ["Share of the catalogue in some list:", table(rows, ["retrainings", *SYSTEMS, "events", "gate"])]
    parts += ["What each retraining gained on the rows that the gate compares both models on:", _gained(rounds)]
    return "\n\n".join(parts) + "\n"


def _gained(rounds: list[dict[str, Any]]) -> str:
    """The gate's differences: the same users in the same state, and so without what they have used up since."""
    gates = {one["round"] + 1: one["gate"] for one in rounds if one.get("gate")}
    names = list(next(iter(gates.values()), {}))
    rows = [
        [number, *(value_in(m["difference"]["value"], m["difference"]["interval"], "+.3f") for m in gate.values())]
        for number, gate in gates.items()
    ]
    return table(rows, ["retraining", *names])


def _gate(one: dict[str, Any]) -> str:
    return {True: "promoted", False: "refused", None: ""}[one.get("promoted")]


def main() -> None:
    """Generates, starts a stack, goes through the rounds, writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="retrainings")
    parser.add_argument("--seed", type=int, default=1, help="of what the users do")
    arguments, own = parser.parse_args(), Settings()
    with tempfile.TemporaryDirectory() as folder, settings_of_its_own() as env:
        raw, first = Path(folder) / "raw", Path(folder) / "first"
        generate(raw, SCALE, own.seed)
        with in_force({**env, "DATA_DIR": str(raw)}) as settings:
            start()
            shutil.copytree(settings.artefacts, first)
            report = simulate(settings, arguments.rounds, arguments.seed, first)
            dataset = catalogue.DATASET.load()
    report |= {"dataset": f"generated, {SCALE.users:,} users", "seed": dataset.seed, "machine": machine()}
    text = tables(report)
    write_report(own, "simulate", report, text)
    print(text)
    print(f"wrote {draw_loop(report, charts_folder(own) / 'loop.png')}")


if __name__ == "__main__":
    run_stage(main)
