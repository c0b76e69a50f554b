"""Team-draft interleaving: one list of two, whose items are taken in turn, so that a user compares both at once.

Source: Radlinski, Kurup and Joachims, "How does clickthrough data reflect retrieval quality?", CIKM 2008. Between users
who like much and users who like little an experiment with arms finds a difference late; a user who chooses between two
lists' items is compared with nobody else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from online.callers.types import ScoredItem
from online.recommendation import Recommendation

Coin = Callable[[int], bool]  # of a round from 0: whether the second team picks first in it


def team_draft(
    first: Sequence[ScoredItem], second: Sequence[ScoredItem], size: int, coin: Coin
) -> tuple[tuple[ScoredItem, ...], list[int]]:
    """The items of both lists, and for each the place, 0 or 1, of the team that picked it.

    In every round each team picks the best item of its own list that stands in no team yet; which of them begins is
    tossed. Where a team's list has ended, the other goes on alone.

    Args:
        first, second: best first.
        size: of the list, at most.
        coin: tossed once a round.
    """
    lists: tuple[Iterator[ScoredItem], ...] = (iter(first), iter(second))
    items, teams, taken = list[ScoredItem](), list[int](), set[int]()
    for number in range(size):
        begins = int(coin(number))
        picked = len(items)
        for team in (begins, 1 - begins):
            pick = next((item for item in lists[team] if item.itemid not in taken), None)
            if pick is not None and len(items) < size:
                items.append(pick)
                teams.append(team)
                taken.add(pick.itemid)
        if len(items) == picked:
            break
    return tuple(items), teams


def interleaved(
    first: Recommendation, second: Recommendation, names: tuple[str, str], size: int, coin: Coin
) -> Recommendation:
    """One recommendation of two for the same user.

    Where neither has candidates, as when the user is unknown, the arms have no part in the list and nothing is drafted.

    Args:
        first, second: with at least `size` items each, where there are so many.
        names: of the two arms.
        size: of the list.
        coin: as for `team_draft`.
    """
    known = {id(step) for step in first.steps}  # both begin with the same ones
    steps = (*first.steps, *(step for step in second.steps if id(step) not in known))
    if not len(first.candidates) and not len(second.candidates):
        return replace(first if first.items else second, steps=steps)
    items, teams = team_draft(first.items, second.items, size, coin)
    return replace(
        first if len(first.candidates) else second,
        items=items,
        steps=steps,
        drafted_from=(first, second),
        teams={item.itemid: names[team] for item, team in zip(items, teams, strict=True)},
    )
