"""What Redis holds of a user, as text and back; and what is wrong with it, where something is."""

import json
from collections.abc import Iterable, Sequence

import pydantic
import redis
from pydantic import TypeAdapter

from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from data_exchange_center.serving_names import REDIS_FILTER, REDIS_RECENT, REDIS_TERM, REDIS_VECTOR
from online.callers.types import Impression, ServiceUnavailable, StoreFault, UserRecall

KEYS = (REDIS_TERM, REDIS_VECTOR, REDIS_FILTER, REDIS_RECENT)

term_values = TypeAdapter(tuple[str, ...])
vector_values = TypeAdapter(tuple[pydantic.FiniteFloat, ...])
item_values = TypeAdapter(tuple[int, ...])
_impressions = TypeAdapter(tuple[tuple[int, float, int], ...])
DATA_FAULTS = (ValueError, TypeError, AttributeError)  # ValidationError is a ValueError
FAULTS = (redis.RedisError, *DATA_FAULTS)
WRONG_TYPE = "WRONGTYPE"  # how Redis begins its error where a key holds another kind of value


def impressions_json(impressions: Iterable[Impression]) -> str:
    """As stored under REDIS_RECENT."""
    return json.dumps([impression.stored for impression in impressions])


def read_impressions(stored: bytes, most: int = TOWER_IMPRESSIONS) -> tuple[Impression, ...]:
    """The last `most` of what is stored under REDIS_RECENT."""
    return tuple(Impression(*values) for values in _impressions.validate_json(stored)[-most:])


def live_keys(userid: int) -> list[str]:
    """The keys of what events change of a user, the log of the events apart."""
    return [key.format(userid) for key in (REDIS_TERM, REDIS_FILTER, REDIS_RECENT)]


def fault_of(error: Exception) -> ServiceUnavailable:
    """What to raise: a value that cannot be read is a fault of what was asked for, not of Redis."""
    is_of_data = isinstance(error, DATA_FAULTS) or WRONG_TYPE in str(error)
    return (StoreFault if is_of_data else ServiceUnavailable)("redis", error)


def check_complete(userid: int, live: Sequence[bytes | None]) -> bool:
    """Whether Redis knows the user.

    Args:
        userid: whose keys they are.
        live: the values of `live_keys`, which are written together.

    Raises:
        StoreFault: some of them are there and others are not: what is missing is no empty list.
    """
    missing = [key for key, value in zip(live_keys(userid), live, strict=True) if value is None]
    if 0 < len(missing) < len(live):
        raise StoreFault("redis", f"it has lost {', '.join(missing)}, and not the user's other keys: run `make load`")
    return not missing


def check_load(held: bytes | None, expected: str) -> None:
    """Raises StoreFault unless the users in Redis are of the expected load."""
    if held is None or held.decode() != expected:
        holds = f"the load {held.decode()}" if held else "no load"
        raise StoreFault("redis", f"it holds {holds}, and the artefacts are of {expected}: run `make load`")


def user_recall(
    userid: int, term: bytes | None, vector: bytes | None, seen: bytes | None, recent: bytes | None
) -> UserRecall | None:
    """The user from the values of KEYS; None where Redis does not know them.

    Raises:
        StoreFault: as `check_complete` does.
        ValueError: a value is not what it should be.
    """
    if not check_complete(userid, (term, seen, recent)):
        return None
    return UserRecall(
        term_values.validate_json(term or b""),
        vector_values.validate_json(vector or b"[]"),
        item_values.validate_json(seen or b""),
        read_impressions(recent or b"", RANKER_IMPRESSIONS),
    )
