"""Loads each user's terms, vector, filter and latest impressions into Redis, and reads every user back.

    python -m offline_to_online.recall.s1_user_to_redis

Each user has four keys whose values are JSON, so that a person can read `redis-cli get recsys:user_term:{1}`. Users of
an earlier load that are not in this data set are removed, since they would be recommended items of another catalogue.
The events that came in since the last load are removed too: Redis then holds what the artefacts hold, and nothing else.
"""

import itertools
import json

import redis
from tqdm import tqdm

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.serving_load import load_digest
from data_exchange_center.serving_names import (
    REDIS_EVENTS,
    REDIS_FILTER,
    REDIS_LOAD,
    REDIS_RECENT,
    REDIS_TERM,
    REDIS_UNPUSHED,
    REDIS_USER_KEYS,
    REDIS_USER_LOAD,
    REDIS_VECTOR,
    redis_prefix,
    redis_userid,
)
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline_to_online.loader import LOADER_TIMEOUT, LoadError
from offline_to_online.recall.user_recall import USER_RECALL_READS, Recent, latest_impressions, users_to_load
from online.callers.redis_caller import RedisCaller
from online.callers.redis_stores import redis_caller, redis_client
from online.callers.redis_values import impressions_json
from online.callers.types import ServiceUnavailable, UserRecall

READS = (catalogue.DATASET, *USER_RECALL_READS)
WRITES: Artefacts = ()

USERS_AT_A_TIME = 1000


def write(client: redis.Redis, users: dict[int, UserRecall], recent: Recent, load: str | None = None) -> None:
    """Sets all keys in pipelines, then removes those of users that are not in `users`, and all events.

    Args:
        client: of one Redis, or of a cluster.
        users, recent: what is written.
        load: its digest, written beside each user in a cluster.
    """
    blocks = list(range(0, len(users), USERS_AT_A_TIME))
    items = list(users.items())
    for start in tqdm(blocks, desc="users to Redis", unit="block", disable=None, leave=False):
        pipeline = client.pipeline(transaction=False)
        for userid, user in items[start : start + USERS_AT_A_TIME]:
            # A user's keys change in one command: no request sees a new vector beside an old filter.
            pipeline.delete(REDIS_EVENTS.format(userid))
            values = {
                REDIS_TERM.format(userid): json.dumps(user.terms),
                REDIS_VECTOR.format(userid): json.dumps(user.vector),
                REDIS_FILTER.format(userid): json.dumps(user.seen),
                REDIS_RECENT.format(userid): impressions_json(recent[userid]),
                **({REDIS_USER_LOAD.format(userid): load} if load is not None else {}),
            }
            pipeline.execute_command("MSET", *itertools.chain.from_iterable(values.items()))
        pipeline.execute()
    client.delete(REDIS_UNPUSHED)
    for key in REDIS_USER_KEYS:
        keys = client.scan_iter(match=f"{redis_prefix(key)}*", count=10_000)
        stale = [found for found in keys if not _is_of(redis_userid(key, found), users)]
        for start in range(0, len(stale), USERS_AT_A_TIME):
            pipeline = client.pipeline(transaction=False)
            for found in stale[start : start + USERS_AT_A_TIME]:
                pipeline.delete(found)
            pipeline.execute()


def _is_of(written: str, users: dict[int, UserRecall]) -> bool:
    """Whether what stands in a key is the id of one of these users, as this loader writes it."""
    return written.isdecimal() and int(written) in users and written == str(int(written))


def check(caller: RedisCaller, users: dict[int, UserRecall], recent: Recent) -> None:
    """Reads every user back through the server's own caller.

    Raises:
        LoadError: naming the first user that differs.
    """
    ids = list(users)
    for start in range(0, len(ids), USERS_AT_A_TIME):
        block = ids[start : start + USERS_AT_A_TIME]
        for userid, *found in zip(block, caller.users(block), caller.recent(block), strict=True):
            if found != [users[userid], recent[userid]]:
                loaded = [users[userid], recent[userid]]
                raise LoadError(f"Redis holds {found} for user {userid}, but {loaded} was loaded: load again.")


def main() -> None:
    """Writes, then reads back."""
    settings = Settings()
    recent = latest_impressions()
    users = users_to_load(recent)
    caller, digest = redis_caller(settings, LOADER_TIMEOUT), load_digest()
    try:
        client = redis_client(settings, LOADER_TIMEOUT)
        if caller.loaded() != digest:
            client.delete(REDIS_LOAD)  # until all users are there, the server does without them
        write(client, users, recent, digest if settings.is_cluster else None)
        check(caller, users, recent)
        client.set(REDIS_LOAD, digest)
    except redis.OutOfMemoryError as error:
        raise ServiceUnavailable("redis", f"{error}; raise its `maxmemory`") from error
    except redis.RedisError as error:
        raise ServiceUnavailable("redis", f"{error}; start it with `make services`") from error
    name = catalogue.DATASET.load().dataset
    print(f"data set {name}: {len(users):,} users in Redis, every one read back and equal")


if __name__ == "__main__":
    run_stage(main)
