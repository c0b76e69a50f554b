"""How the search grows with the catalogue, and the preprocessing with the ratings.

    python -m benchmarks.speed.growth [--copies]

The command measures the search alone: as served, then exact in catalogues around EXACT_SEARCH_UP_TO; with --copies also
in the harder catalogue of noisy copies of the served items.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch
from sklearn.mixture import GaussianMixture

from benchmarks.report import machine, measured_on, table, write_report
from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array
from data_exchange_center.measured_process import run_measured
from data_exchange_center.serving_names import ES_ALIAS
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline_to_online.recall.item_index import (
    ItemDocument,
    check_nearest,
    create_index,
    fill_index,
    item_documents,
)
from offline_to_online.recall.s2_item_to_es import cells_of
from offline_to_online.recall.user_recall import users_to_load
from online.callers.es_caller import ElasticsearchCaller, elasticsearch_client
from online.callers.types import UserRecall

CATALOGUES = (1, 10, 100, 1_000_000)  # items: up to MOST_FACTOR so many times the served ones, else so many
MOST_FACTOR = 1000
EXACT_CATALOGUES = (1, 20_000, 30_000, 40_000)
RATING_FACTORS = (1, 10)
SEARCHES = 300
BLOCK = 50  # searches of one catalogue before it is the next one's turn
COMPARED_USERS = 50  # whose hits are compared with the exact search
COMPONENTS = (
    4  # of the mixture that items are drawn from; of 1 to 64 the likeliest for served items left out of the fit
)
NOISE = 0.1  # added to each number of a copied item's vector
TIMEOUT = 600.0  # seconds
GENERATE = """
import sys
from pathlib import Path
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.scale import Scale
factor, seed = map(int, sys.argv[2:])
scale = Scale(users=6040 * factor, ratings=1_000_209 * factor, max_userid=6040 * factor)
generate(Path(sys.argv[1]), scale, seed)
"""


def generate_command(folder: Path, factor: int, seed: int) -> list[str]:
    """The command that generates `factor` times ML-1M's users and ratings, for a process that can be measured."""
    return [sys.executable, "-c", GENERATE, str(folder), str(factor), str(seed)]


def drawn_vectors(vectors: Float32Array, count: int, seed: int) -> Float32Array:
    """[count, dimensions] vectors distributed as those of the served items: drawn from a mixture fitted to them."""
    mixture = GaussianMixture(COMPONENTS, reg_covar=1e-4, random_state=seed).fit(vectors.astype(np.float64))
    drawn: Float32Array = mixture.sample(count)[0].astype(np.float32)
    return np.random.default_rng(seed).permutation(drawn)


def copied_vectors(vectors: Float32Array, count: int, seed: int) -> Float32Array:
    """[count, dimensions] noisy copies of the served items, which crowd around each of them in every direction."""
    noise = np.random.default_rng(seed).normal(scale=NOISE, size=(count, vectors.shape[1]))
    return vectors[np.arange(count) % len(vectors)] + noise.astype(np.float32)


def documents(served: list[ItemDocument], items: int, seed: int, copies: bool = False) -> list[ItemDocument]:
    """The served items and as many others as make up `items`, each with a served one's genres and popularity."""
    vectors, count = np.array([item["vector"] for item in served], np.float32), items - len(served)
    if not count:
        return served
    others = copied_vectors(vectors, count, seed) if copies else drawn_vectors(vectors, count, seed)
    first = int(served[-1]["itemid"]) + 1
    return served + [
        {**served[row % len(served)], "itemid": str(first + row), "vector": vector} for row, vector in enumerate(others)
    ]


def load_catalogue(
    client: Elasticsearch, name: str, content: list[ItemDocument], users: Sequence[UserRecall], settings: Settings
) -> dict[str, Any]:
    """Loads an index as s2_item_to_es does, its cells, if any, fitted to these users.

    Returns:
        Its row of the report, but for what is searched.
    """
    began = time.monotonic()
    cells = cells_of(content, list(users), settings)
    create_index(client, name, len(content[0]["vector"]), cells)
    fill_index(client, name, content, cells)
    size = client.indices.stats(index=name, metric="store").body["_all"]["total"]["store"]["size_in_bytes"]
    return {
        "items": len(content),
        "search": "exact" if cells is None else "approximate",
        "load_s": round(time.monotonic() - began, 1),
        "index_mib": round(size / 2**20),
    }


def search_times(
    caller: ElasticsearchCaller, names: Sequence[str], users: Sequence[UserRecall]
) -> list[dict[str, float]]:
    """Median and 99th percentile of SEARCHES recalls in each index, in blocks that take turns, after as many others."""
    taken: dict[str, list[float]] = {name: [] for name in names}
    for start in range(0, 2 * SEARCHES, BLOCK):
        for name in names:
            for turn in range(start, start + BLOCK):
                began = time.perf_counter()
                caller.search(users[turn % len(users)], name)
                taken[name].append(time.perf_counter() - began)
    quantiles = [np.quantile(taken[name][-SEARCHES:], [0.5, 0.99]) * 1000 for name in names]
    return [
        {
            "search_p50_ms": round(float(p50), 2),
            "search_p99_ms": round(float(p99), 2),
            "of_first": round(float(p50 / quantiles[0][0]), 2),
        }
        for p50, p99 in quantiles
    ]


def items_in_elasticsearch(
    settings: Settings, sizes: Sequence[int] | None = None, copies: bool = False
) -> list[dict[str, Any]]:
    """Loads indices with more and more items beside the served one, searches them in turns, and removes them again.

    Those who search are not among the users whom the cells are fitted to.

    Args:
        settings: with EXACT_SEARCH_UP_TO.
        sizes: as CATALOGUES, which they are unless given.
        copies: whether further items are copies of served ones.
    """
    client: Elasticsearch = elasticsearch_client(settings, TIMEOUT)
    caller, users = ElasticsearchCaller(settings, TIMEOUT), list(users_to_load().values())
    users, others = users[:SEARCHES], users[SEARCHES:]
    served, rows, names = item_documents(), [], []
    try:
        for size in CATALOGUES if sizes is None else sizes:
            items = size * len(served) if size <= MOST_FACTOR else size
            content = documents(served, items, settings.seed, copies)
            names.append(f"growth-{ES_ALIAS}-{size}-{os.getpid()}")
            print(f"  {items:,} items ...", flush=True)
            row = load_catalogue(client, names[-1], content, others, settings)
            row["of_exact"] = round(check_nearest(caller, names[-1], content, users[:COMPARED_USERS], 0.0), 4)
            rows.append({"factor": round(items / len(served)), **row})
            del content
        return [row | times for row, times in zip(rows, search_times(caller, names, users), strict=True)]
    finally:
        for name in names:
            client.indices.delete(index=name, ignore_unavailable=True)
        client.close()
        caller.close()


def ratings_in_preprocessing(seed: int) -> list[dict[str, Any]]:
    """Runs s1 and s2 on generated data of 1 and 10 times ML-1M's size, in a folder that is removed again."""
    rows = []
    for factor in RATING_FACTORS:
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw"
            run_measured(generate_command(raw, factor, seed))
            env = {"DATA_DIR": str(raw), "ARTEFACTS_DIR": str(Path(folder) / "artefacts")}
            stages = [
                run_measured([sys.executable, "-m", f"offline.preprocess.{stage}"], env)
                for stage in ("s1_data_split", "s2_term_trans")
            ]
        rows.append(
            {
                "factor": factor,
                "ratings": 1_000_209 * factor,
                "seconds": round(sum(stage.seconds for stage in stages), 2),
                "peak_mib": round(max(stage.peak_mib for stage in stages)),
            }
        )
    return rows


def measure(settings: Settings, copies: bool) -> dict[str, Any]:
    """The report on the search."""
    dataset = catalogue.DATASET.load()
    report: dict[str, Any] = {"dataset": dataset.dataset, "seed": dataset.seed, "machine": machine()}
    report["items"] = items_in_elasticsearch(settings)
    only_exact = settings.model_copy(update={"exact_search_up_to": max(EXACT_CATALOGUES)})
    report["exact"] = items_in_elasticsearch(only_exact, EXACT_CATALOGUES)
    if copies:
        report["copies"] = items_in_elasticsearch(settings, (1, CATALOGUES[2]), copies=True)
    return report


def main() -> None:
    """Measures, writes the report, prints a row a catalogue."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--copies", action="store_true", help="in a catalogue of copies of the served items, too")
    arguments, settings = parser.parse_args(), Settings()
    report = measure(settings, arguments.copies)
    titles = {"items": "As served", "exact": "Exact", "copies": "As served, noisy copies"}
    parts = ["# Search by vector", measured_on(report)]
    for kind in (kind for kind in titles if kind in report):
        rows = report[kind]
        parts += [f"{titles[kind]}:", table([list(row.values()) for row in rows], list(rows[0]))]
    text = "\n\n".join(parts) + "\n"
    write_report(settings, "growth", report, text)
    print(text)


if __name__ == "__main__":
    run_stage(main)
