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

But for the panel: users who only ask for their list, in each round. They stay as they are, so that what their lists
gain is what the models have learned. Those who act use up what is easiest to find, and each round's likes are harder
to find than the last one's, for the oracle as well.

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
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loop.contender import impressions_of, lists_of, model_after
from benchmarks.loop.evaluation import FIRST, ORACLE, POPULAR, SERVED, Evaluated, by_group, coverage, evaluated
from benchmarks.loop.loop_chart import draw_loop
from benchmarks.loop.loop_tables import loop_tables
from benchmarks.loop.people import LIST_LENGTH, Lists, People, Rated
from benchmarks.loop.replay import count_again, kept_out
from benchmarks.loop.shop import Shop, send
from benchmarks.report import charts_folder, machine, read_report, write_report
from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from offline.preprocess.readers.recognise import recognise
from offline.preprocess.readers.with_events import WithEvents
from offline.preprocess.splitting import split_users
from offline.preprocess.synthetic.files import END, generate
from offline.preprocess.synthetic.oracle import HELD_OUT, ORACLE_FILE, load_truth
from offline.preprocess.synthetic.scale import Scale
from online.serving_data import ServingData
from testkit.stack import in_force, settings_of_its_own

# A young shop: 30 ratings a user, and a catalogue that they do not use up within a few rounds.
SCALE = Scale(users=1_500, items=3_000, ratings=45_000, max_userid=1_500, max_itemid=3_000)
PANEL = 500  # of these users
# What users rate by themselves in a round. The last HELD_OUT rows of each are kept out of every fit: were it no more,
# a retraining would be fitted to nothing that users found by themselves in the round before it.
STEPS = 2 * HELD_OUT
ROUNDS = 3
ROUND_SECONDS = 7 * 86_400
LOG_SECONDS = 1.0  # after which the server has logged what it has shown


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


def lists_of_the_first(first: Path, settings: Settings) -> Lists:
    """The lists of the models that were never retrained, on arrays; the users are as they are now.

    Args:
        first: root of their artefacts.
        settings: of the stack, whose drained events are what people have done since.
    """
    data = recognise(settings.raw_data, "")
    events, seen = catalogue.EVENT_RATINGS.file, catalogue.EXPOSURES.file
    ratings = (WithEvents(data, events, seen) if events.exists() else data).ratings()
    with in_force({"ARTEFACTS_DIR": str(first)}):
        serving = ServingData.load()
        backends = model_after(impressions_of(split_users(ratings, 0, data.scale)), serving)
        return lists_of(backends, serving, LIST_LENGTH)


def one_round(
    number: int, shop: Shop, people: People, popularity: Popularity, never_retrained: Lists
) -> tuple[dict[str, Any], Evaluated]:
    """Lists, their evaluation, and what people do; returns what is reported, and each system's metrics by user."""
    expected, elsewhere = people.expected(), popularity.people.expected()
    lists: dict[str, Lists] = {
        SERVED: shop.lists(people.userids.tolist(), number),
        FIRST: never_retrained,
        ORACLE: people.best(expected),
        POPULAR: popularity.lists(),
    }
    alone, alone_elsewhere = people.go_on(STEPS), popularity.people.go_on(STEPS)
    metrics = {name: evaluated(lists[name], expected, alone, people) for name in (SERVED, FIRST, ORACLE)}
    metrics[POPULAR] = evaluated(lists[POPULAR], elsewhere, alone_elsewhere, popularity.people)
    acted = people.look(lists[SERVED])
    events = send(shop, people, (acted, alone), END + (number + 1) * ROUND_SECONDS, number)
    for rated in (alone_elsewhere, popularity.people.look(lists[POPULAR])):
        popularity.take(rated)
    report: dict[str, Any] = {
        "round": number,
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
    people, shop = People(truth, last, seed, PANEL), Shop(settings)
    popularity = Popularity(People(truth, last, seed, PANEL))
    panel = set(people.userids[people.in_panel].tolist())
    report: dict[str, Any] = {"rounds": []}
    before: Evaluated | None = None
    for number in range(rounds + 1):
        print(f"round {number} ...", flush=True)
        shop.wait()
        of_round, metrics = one_round(number, shop, people, popularity, lists_of_the_first(first, settings))
        of_round["groups"] = by_group(metrics, before, people, number)
        before = metrics
        if number < rounds:
            time.sleep(LOG_SECONDS)
            status = run("benchmarks.loop.retrain")
            if not status:  # a load keeps everybody's last rows out, and gives them back to those alone who acted
                count_again({user: rows for user, rows in kept.items() if user in panel})
            gate = read_report(settings, "retrain") or {}
            of_round["promoted"], of_round["gate"] = not status, gate.get("metrics")
            of_round["log"] = catalogue.LOG_ROWS.load().model_dump()
        report["rounds"].append(of_round)
        print(json.dumps(of_round["groups"]), flush=True)
    return report


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
    name = f"generated, {SCALE.users:,} users, {PANEL:,} of them the panel"
    report |= {"dataset": name, "seed": dataset.seed, "machine": machine()}
    text = loop_tables(report)
    write_report(own, "simulate", report, text)
    print(text)
    print(f"wrote {draw_loop(report, charts_folder(own) / 'loop.png')}")


if __name__ == "__main__":
    run_stage(main)
