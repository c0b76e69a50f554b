"""What the server logs for training: the lists that it showed, and the events that it accepted.

The server writes the entries into Redis Streams, and online_to_offline/ reads them, both by the models below. An entry
is JSON, so that `redis-cli xrevrange recsys:impressions + - count 1` reads as what it is; a list is written by columns,
which names each field once and not once an item.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from data_exchange_center.arrays import Int64Array
from data_exchange_center.external_ids import ExternalId

DIGEST_BYTES = 4  # of the features of one item: two that differ look alike once in 4,000,000,000 times
DEFAULT_ARM = "default"


class Origin(BaseModel):
    """How an event came: its ids as the client wrote them, and the request whose list it answers, if it names one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    userid: ExternalId
    itemid: ExternalId
    request_id: str | None = None


class LoggedEvent(BaseModel):
    """An accepted event; ids as the client wrote them, `ts` in seconds since 1970."""

    model_config = ConfigDict(extra="forbid")

    userid: ExternalId
    itemid: ExternalId
    rating: float
    ts: int
    request_id: str | None = None


class ShownList(BaseModel):
    """A list that was sent to a user: n items, best first, so that an item's position is its place, from 1.

    Attributes:
        request_id: as in X-Request-ID.
        time: milliseconds since 1970, when the response had been sent.
        userid, items: as they are known inside; of text ids the integers that stand for them.
        scores, recall_scores: [n] as in the response, in six digits.
        recalled_by: [n] names joined by +.
        features: [n] digest of the user's and the item's features as the ranking model got them; empty where it had no
            part.
        recent_items, recent_ratings: the user's last impressions as the ranking model got them, oldest first: from
            these the features of the user's history follow.
        model_version: of the ranking model; None where it had no part.
        load: digest of the artefacts that index, vectors and model are of.
        arm, propensity: of the experiment, and how probable this arm was.
        teams: [n] of an interleaved list the arm that picked the item, "" for an item of a rule; of others empty.
        shadow_version: of the ranking model that scored the list for this log alone; None where none did.
        shadow_scores, shadow_positions: [n] its scores of the items, and their places, from 1, in its order of all
            candidates; 0 for one that was none, or is pinned. Empty without a shadow.
        degraded: services that could not be used.
        fallback: why the items are popular ones, where they are.
    """

    model_config = ConfigDict(extra="forbid")

    request_id: str
    time: int
    userid: int
    items: list[int]
    scores: list[float]
    recall_scores: list[float]
    recalled_by: list[str]
    features: list[str] = []
    recent_items: list[int] = []
    recent_ratings: list[float] = []
    model_version: str | None = None
    load: str
    arm: str = DEFAULT_ARM
    propensity: float = 1.0
    teams: list[str] = []
    shadow_version: str | None = None
    shadow_scores: list[float] = []
    shadow_positions: list[int] = []
    degraded: list[str] = []
    fallback: str | None = None


def feature_digests(user: Int64Array, items: Int64Array) -> list[str]:
    """[n] digests of what the ranking model knows of a user and each of n items.

    Args:
        user: [user columns] in the declared order.
        items: [n, item columns] in the declared order.
    """
    of_user = hashlib.blake2b(user.astype("<i4").tobytes(), digest_size=DIGEST_BYTES)
    digests = []
    for row in np.ascontiguousarray(items, "<i4"):
        digest = of_user.copy()  # the user is hashed once
        digest.update(row.tobytes())
        digests.append(digest.hexdigest())
    return digests


def six_digits(values: Sequence[float]) -> list[float]:
    """The values in six significant digits: single precision holds hardly more, and the text is half as long."""
    return [float(f"{value:.6g}") for value in values]
