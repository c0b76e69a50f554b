"""How the search grows with the catalogue, and the preprocessing with the ratings."""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch

from data_exchange_center.measured_process import run_measured
from data_exchange_center.serving_names import ES_ALIAS
from data_exchange_center.settings import Settings
from offline_to_online.recall.item_index import (
    ItemDocument,
    check_nearest,
    create_index,
    fill_index,
    item_documents,
)
from offline_to_online.recall.user_recall import users_to_load
from online.callers.es_caller import ElasticsearchCaller, elasticsearch_client
from online.callers.types import UserRecall

ITEM_FACTORS = (1, 10, 100)
RATING_FACTORS = (1, 10)
SEARCHES = 300
COMPARED_USERS = 50  # whose hits are compared with the exact search
NOISE = 0.1  # added to a copied item's vector, so that copies are near the item and not equal to it
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


def documents(factor: int, seed: int) -> list[ItemDocument]:
    """The catalogue's items and `factor` - 1 noisy copies of each, with ids of their own."""
    items = item_documents()
    ids, vectors = [int(item["itemid"]) for item in items], np.array([item["vector"] for item in items], np.float32)
    rng, content = np.random.default_rng(seed), list(items)
    for copy in range(1, factor):
        noisy = vectors + NOISE * rng.normal(size=vectors.shape).astype(np.float32)
        content += [
            ItemDocument(
                itemid=str(own + copy * (ids[-1] + 1)),
                genres=item["genres"],
                vector=vector,
                popularity=item["popularity"],
            )
            for item, own, vector in zip(items, ids, noisy.tolist(), strict=True)
        ]
    return content


def search_times(caller: ElasticsearchCaller, name: str, users: Sequence[UserRecall], items: int) -> dict[str, float]:
    """Median and 99th percentile of SEARCHES recalls, after as many that warm the caches up."""
    taken = []
    for turn in range(2 * SEARCHES):
        began = time.perf_counter()
        caller.search(users[turn % len(users)], items, name)
        taken.append(time.perf_counter() - began)
    p50, p99 = np.quantile(taken[SEARCHES:], [0.5, 0.99]) * 1000
    return {"search_p50_ms": round(float(p50), 2), "search_p99_ms": round(float(p99), 2)}


def items_in_elasticsearch(settings: Settings) -> list[dict[str, Any]]:
    """Loads and searches indices with more and more items, beside the served one; each is removed again."""
    client: Elasticsearch = elasticsearch_client(settings, TIMEOUT)
    caller, users = ElasticsearchCaller(settings, TIMEOUT), list(users_to_load().values())[:SEARCHES]
    rows = []
    for factor in ITEM_FACTORS:
        content, name = documents(factor, settings.seed), f"growth-{ES_ALIAS}-{factor}-{os.getpid()}"
        try:
            began = time.monotonic()
            create_index(client, name, len(content[0]["vector"]), len(content))
            fill_index(client, name, content)
            loaded = time.monotonic() - began
            overlap = check_nearest(caller, name, content, users[:COMPARED_USERS])
            times = search_times(caller, name, users, len(content))
        finally:
            client.indices.delete(index=name, ignore_unavailable=True)
        rows.append(
            {
                "factor": factor,
                "items": len(content),
                "load_s": round(loaded, 1),
                **times,
                "of_exact": round(overlap, 4),
            }
        )
    return rows


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
