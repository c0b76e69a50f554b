"""Loads each user's terms, vector, filter and latest impressions into Redis, and reads the users back.

    python -m offline_to_online.recall.s1_user_to_redis

Each user has four keys whose values are JSON, so that a person can read `redis-cli get recsys:user_term:{1}`. Users of
an earlier load that are not in this data set are removed, since they would be recommended items of another catalogue.
The events that came in since the last load are removed too: Redis then holds what the artefacts hold, and nothing else.

Slices of users go to worker processes (LOAD_PROCESSES), each of which makes its slice from the artefacts, writes it and
reads it back: users in the tens of millions need no more memory than a slice in each process. Above LOAD_CHECK_UP_TO
users a sample is read back, and the last line says so.
"""

import itertools
import json
from dataclasses import dataclass

import numpy as np
import redis
from tqdm import tqdm

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, Int64Array
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
from offline_to_online.loader import (
    LOADER_TIMEOUT,
    LoadError,
    how_many_checked,
    processes_for,
    rows_to_check,
    run_tasks,
)
from offline_to_online.recall.user_recall import (
    USER_RECALL_READS,
    Recent,
    UserSlice,
    latest_impressions,
    user_slices,
    users_to_load,
    users_with_rows,
)
from online.callers.redis_caller import RedisCaller
from online.callers.redis_stores import redis_caller, redis_client
from online.callers.redis_values import impressions_json
from online.callers.types import ServiceUnavailable, UserRecall

READS = (catalogue.DATASET, *USER_RECALL_READS)
WRITES: Artefacts = ()

USERS_AT_A_TIME = 1000
MOST = np.iinfo(np.int64).max  # that an id may be
KEYS_AT_A_TIME = 10_000


def write(client: redis.Redis, users: dict[int, UserRecall], recent: Recent, load: str | None = None) -> None:
    """Sets all keys of the users in pipelines, and removes their events.

    Args:
        client: of one Redis, or of a cluster.
        users, recent: what is written.
        load: its digest, written beside each user in a cluster.
    """
    items = list(users.items())
    for start in range(0, len(items), USERS_AT_A_TIME):
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


def remove_others(client: redis.Redis, userids: Int64Array) -> None:
    """Removes the keys of all users but these, and the mark of events that Feast lacks.

    Args:
        client: of one Redis, or of a cluster.
        userids: [users] ascending.
    """
    client.delete(REDIS_UNPUSHED)
    for key in REDIS_USER_KEYS:
        keys = client.scan_iter(match=f"{redis_prefix(key)}*", count=KEYS_AT_A_TIME)
        while found := list(itertools.islice(keys, KEYS_AT_A_TIME)):
            written = [redis_userid(key, one) for one in found]
            pipeline = client.pipeline(transaction=False)
            for place in np.flatnonzero(~_are_of(written, userids)).tolist():
                pipeline.delete(found[place])
            pipeline.execute()


def _are_of(written: list[str], userids: Int64Array) -> BoolArray:
    """[n] whether what stands in a key is the id of one of these users, as this loader writes it."""
    ids = np.array([_id_of(text) for text in written], np.int64)
    # Not isin, which would sort all users for each block of keys.
    places = np.minimum(np.searchsorted(userids, ids), max(len(userids) - 1, 0))
    found: BoolArray = userids[places] == ids if len(userids) else np.zeros(len(ids), np.bool_)
    return found


def _id_of(written: str) -> int:
    """The id; -1, which is nobody's, where it is not written as this loader writes one."""
    # Not LARGEST_ID, which bounds the ids that JSON carries: those that stand for text have up to 63 bits.
    is_id = written.isdecimal() and len(written) <= len(str(MOST)) and written == str(int(written))
    return int(written) if is_id and int(written) <= MOST else -1


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


@dataclass(frozen=True)
class UserTask:
    """What a worker process loads.

    Attributes:
        users: the slice.
        checked: places in the slice of the users that are read back.
        load: the load's digest in a cluster, else None.
    """

    users: UserSlice
    checked: Int64Array
    load: str | None


def load_slice(task: UserTask) -> int:
    """Makes, writes and reads back a slice of users; returns how many they are.

    Raises:
        LoadError: as from `check`.
        ServiceUnavailable: Redis does not respond, or has no room.
    """
    settings, recent = Settings(), latest_impressions(of=task.users)
    users = users_to_load(recent, of=task.users)
    try:
        with redis_client(settings, LOADER_TIMEOUT) as client:
            write(client, users, recent, task.load)
        ids = list(users)
        checked = {ids[place]: users[ids[place]] for place in task.checked.tolist()}
        check(redis_caller(settings, LOADER_TIMEOUT), checked, recent)
    except redis.RedisError as error:
        raise _unavailable(error) from error
    return len(users)


def _unavailable(error: redis.RedisError) -> ServiceUnavailable:
    remedy = "raise its `maxmemory`" if isinstance(error, redis.OutOfMemoryError) else "start it with `make services`"
    return ServiceUnavailable("redis", f"{error}; {remedy}")


def tasks_of(slices: list[UserSlice], checked: Int64Array, load: str | None) -> list[UserTask]:
    """A task for each slice.

    Args:
        slices: of all users.
        checked: rows of USER_TERM to be read back, ascending.
        load: see UserTask.
    """
    bounds = [np.searchsorted(checked, of.users) for of in slices]
    return [
        UserTask(of, checked[start:end] - of.users[0], load) for of, (start, end) in zip(slices, bounds, strict=True)
    ]


def main() -> None:
    """Writes and reads back, slice by slice; then removes whoever is not of this load."""
    settings, userids = Settings(), users_with_rows()
    digest, checked = load_digest(), rows_to_check(len(userids), settings)
    tasks = tasks_of(user_slices(userids), checked, digest if settings.is_cluster else None)
    try:
        client = redis_client(settings, LOADER_TIMEOUT)
        if redis_caller(settings, LOADER_TIMEOUT).loaded() != digest:
            client.delete(REDIS_LOAD)  # until all users are there, the server does without them
        with tqdm(total=len(userids), desc="users to Redis", unit="user", disable=None, leave=False) as progress:
            for loaded in run_tasks(load_slice, tasks, processes_for(len(userids), settings)):
                progress.update(loaded)
        remove_others(client, userids)
        client.set(REDIS_LOAD, digest)
    except redis.RedisError as error:
        raise _unavailable(error) from error
    name, read = catalogue.DATASET.load().dataset, how_many_checked(len(userids), "users", settings)
    print(f"data set {name}: {len(userids):,} users in Redis, {read} read back and equal")


if __name__ == "__main__":
    run_stage(main)
