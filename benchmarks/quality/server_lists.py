"""The lists of the running server, and whether they are those of the recommender on the artefacts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality.replay import ReplayError, check_served, replay
from data_exchange_center.external_ids import internal_id
from data_exchange_center.limits import RECALL_SIZE
from data_exchange_center.settings import Settings
from online.callers.redis_stores import redis_caller
from online.callers.types import ScoredItem

TIE = 1e-4  # items whose scores are closer may stand in either order: Elasticsearch's and Triton's are float32
TIMEOUT = 30.0  # seconds
LEAST_IDENTICAL = 0.9  # of the lists, in their order: ties are few


def same_list(served: Sequence[ScoredItem], expected: Sequence[ScoredItem]) -> bool:
    """Whether the server's list is that of the recommender on the artefacts, but for items whose scores tie.

    Also at the edge of the candidates: where the scores of the last one found and the first one left out tie, either
    may have been found.
    """
    in_both = {item.itemid for item in served} & {item.itemid for item in expected}
    edge = [item.recall_score for item in (*served, *expected) if item.itemid not in in_both]
    if len(served) != len(expected) or (edge and max(edge) - min(edge) >= TIE):
        return False
    ours, own = ([item for item in part if item.itemid in in_both] for part in (served, expected))
    scores = {item.itemid: item.score for item in own}
    return all(
        abs(found.score - item.score) < TIE and abs(scores[found.itemid] - item.score) < TIE
        for found, item in zip(ours, own, strict=True)
    )


def same_but_for_diversity(served: Sequence[ScoredItem], expected: Sequence[ScoredItem]) -> bool:
    """The same of lists that were made diverse: both are put back into the order of their scores.

    Where two items tie in what diversity weighs, either is taken first, and all that follows may then be another order:
    the orders are compared over all lists, see LEAST_IDENTICAL.
    """
    return same_list(_by_score(served), _by_score(expected))


def _by_score(items: Sequence[ScoredItem]) -> list[ScoredItem]:
    return sorted(items, key=lambda item: (-item.score, item.itemid))


def _scored_items(response: Mapping[str, Any]) -> list[ScoredItem]:
    return [
        ScoredItem(internal_id(i["itemid"]), i["score"], i["recall_score"], i["logit"], tuple(i["recalled_by"]))
        for i in response["items"]
    ]


def compare_with_server(
    settings: Settings, users: Sequence[int], expected: Mapping[int, Sequence[ScoredItem]]
) -> tuple[dict[int, list[ScoredItem]], dict[str, Any]]:
    """The server's lists, and how many of them are those of the recommender on the artefacts.

    Users with live events are left out of the comparison: the artefacts do not know their events.

    Raises:
        ReplayError: the server does not respond, or responds with another list than the artefacts give.
    """
    check_served(settings)
    events = redis_caller(settings, TIMEOUT).events()
    responses = replay(settings, users, RECALL_SIZE)
    lists = {user: _scored_items(responses[user]) for user in users}
    compared = [user for user in users if user not in events]
    differing = [u for u in compared if not same_but_for_diversity(lists[u], expected[u])]
    if differing:
        raise ReplayError(
            f"{len(differing):,} of {len(compared):,} lists of the server are not those of the artefacts, first user "
            f"{differing[0]}'s: `make load`, then `make check`."
        )
    identical = sum([i.itemid for i in lists[u]] == [i.itemid for i in expected[u]] for u in compared)
    if identical < LEAST_IDENTICAL * len(compared):
        raise ReplayError(
            f"only {identical:,} of {len(compared):,} lists of the server are in the order of those of the artefacts: "
            "the server's DEFAULT_DIVERSITY or RULES_FILE is another; restart it with `make stop` and `make serve`."
        )
    milliseconds = defaultdict[str, list[float]](list)
    for response in responses.values():
        for stage, taken in response["explain"]["milliseconds"].items():
            milliseconds[stage].append(taken)
    return lists, {
        "users_compared": len(compared),
        "identical": identical,
        "the_same_but_for_ties": len(compared) - identical,
        "left_out_for_their_events": len(users) - len(compared),
        "stage_p50_ms": {stage: round(float(np.median(taken)), 2) for stage, taken in milliseconds.items()},
    }
