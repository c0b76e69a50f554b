"""Exports the user tower to ONNX, checks it, and makes Triton load it: an event then moves the user's vector.

    python -m offline_to_online.recall.s3_tower_to_triton

Users with live events get the vector that the new tower makes of their last impressions: what they had may be of the
tower before, whose vectors mean nothing beside the new items' vectors.
"""

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.limits import TOWER_IMPRESSIONS
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline_to_online.exported_model import load_into_triton, trained_tower
from offline_to_online.loader import LOADER_TIMEOUT
from online.callers.redis_caller import RedisCaller
from online.callers.redis_stores import redis_caller
from online.callers.triton_caller import TritonCaller
from online.serving_data import ServingData
from online.user_events import sequence_after

READS = (
    catalogue.DATASET,
    catalogue.USERS,
    catalogue.ITEMS,
    catalogue.POPULAR_ITEMS,
    catalogue.SEQUENCE_ITEM_VECTORS,
    catalogue.TOWER_META,
    catalogue.TOWER_MODEL,
)
WRITES: Artefacts = ()


def move_vectors(redis: RedisCaller, triton: TritonCaller) -> int:
    """Gives each user with live events the vector after their last impressions; returns how many users that are."""
    users, data = sorted(redis.events()), ServingData.load()
    for userid, recent in zip(users, redis.recent(users) if users else [], strict=True):
        vectors, _ = triton.user_vectors(*sequence_after(recent, data, TOWER_IMPRESSIONS))
        redis.set_vector(userid, recent, vectors[0])  # where a later event came in, it has brought its own vector
    return len(users)


def main() -> None:
    """Exports, compares, loads, makes vectors with the loaded model."""
    settings = Settings()
    triton = TritonCaller(settings, LOADER_TIMEOUT)
    loaded = load_into_triton(trained_tower(), settings, triton)
    moved = move_vectors(redis_caller(settings, LOADER_TIMEOUT), triton)
    print(f"data set {catalogue.DATASET.load().dataset}: {loaded}; {moved:,} users with live events have its vectors")


if __name__ == "__main__":
    run_stage(main)
