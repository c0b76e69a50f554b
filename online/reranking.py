"""The page of a ranked list: pinned items at their places, caps of genres, and what the rules did."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_exchange_center.elasticsearch_scores import TERM_BONUS
from data_exchange_center.limits import RECALL_SIZE
from online.callers.types import ScoredItem, UserRecall
from online.list_options import ListOptions
from online.recommendation import Recommendation
from online.rules import Capped, Pinned, Rules
from online.serving_data import UNKNOWN_ITEM_METADATA, ServingData

RULE = "rule"  # in `recalled_by` of an item that a rule alone brought into the list

Items = Sequence[ScoredItem]
Acted = dict[int, list[str]]  # names of the rules that acted on an item


def needed(size: int, rules: Rules) -> int:
    """How many ranked items a page of so many is made of."""
    return RECALL_SIZE if rules.are_any else size


def paged(ranked: Recommendation, rules: Rules, size: int, options: ListOptions) -> Recommendation:
    """The page of a ranked list.

    Args:
        ranked: with the `needed` items, in order.
        rules: in force.
        size: of the page, at most.
        options: what the request asked.
    """
    if not rules.are_any:
        return replace(ranked, options=options)
    acted = defaultdict[int, list[str]](list)
    items: Items = ranked.items
    if rules.caps or rules.pins:
        items = placed(items, rules, ranked, options, size, acted)
    page = tuple(items[:size])
    for item in page:
        genres = ranked.snapshot.data.items.get(item.itemid, UNKNOWN_ITEM_METADATA).genres
        names = [rule.name for rule in rules.shifts if rule.itemid == item.itemid or rule.genre in genres]
        if names and item.recalled_by != (RULE,):
            acted[item.itemid] = names + acted[item.itemid]
    teams = {itemid: team for itemid, team in ranked.teams.items() if itemid not in rules.pinned}
    of_page = {item.itemid: tuple(acted[item.itemid]) for item in page if item.itemid in acted}
    return replace(ranked, items=page, options=options, rules=rules, acted=of_page, teams=teams)


def placed(items: Items, rules: Rules, ranked: Recommendation, options: ListOptions, size: int, acted: Acted) -> Items:
    """The page with pinned items at their places, and no more of a genre in the first places than its cap allows.

    Places count over all pages. A pinned item waits for its place, and stands behind the last item where the list ends
    before it. What a cap holds back follows as soon as the cap allows it, or when there is nothing else left.
    """
    data, before = ranked.snapshot.data, len(options.shown)
    pins = _pin_lines(items, rules, ranked, options, acted)
    waiting = [item for item in items if item.itemid not in {line.itemid for _, line in pins}]
    counts = [
        _Count(cap, data, options.shown, [line for pin, line in pins if pin.place <= cap.top]) for cap in rules.caps
    ]
    page: list[ScoredItem] = []
    for place in range(before + 1, before + size + 1):
        if pins and (pins[0][0].place <= place or not waiting):
            page.append(pins.pop(0)[1])
            continue
        if not waiting:
            break
        in_force = [count for count in counts if place <= count.cap.top]
        allowed = next((at for at, item in enumerate(waiting) if all(count.allows(item) for count in in_force)), 0)
        for count in in_force:
            count.note(waiting[:allowed], waiting[allowed], acted)
        page.append(waiting.pop(allowed))
    return page


class _Count:
    """How many items of a cap's genre stand in its places already."""

    def __init__(self, cap: Capped, data: ServingData, shown: Sequence[int], pinned: Items) -> None:
        self.cap, self._items = cap, data.items
        self._has = sum(map(self._is_of_genre, (*shown, *(line.itemid for line in pinned))))

    def _is_of_genre(self, itemid: int) -> bool:
        return self.cap.genre in self._items.get(itemid, UNKNOWN_ITEM_METADATA).genres

    def allows(self, item: ScoredItem) -> bool:
        """Whether the item may stand in the next place."""
        return self._has < self.cap.most or not self._is_of_genre(item.itemid)

    def note(self, passed_over: Items, taken: ScoredItem, acted: Acted) -> None:
        """Counts the item that is taken, and writes the rule's name to those that it held back."""
        for item in passed_over:
            if not self.allows(item) and self.cap.name not in acted[item.itemid]:
                acted[item.itemid].append(self.cap.name)
        self._has += self._is_of_genre(taken.itemid)


def _pin_lines(
    items: Items, rules: Rules, ranked: Recommendation, options: ListOptions, acted: Acted
) -> list[tuple[Pinned, ScoredItem]]:
    """The pins that hold for this person and request, each with its item's line."""
    if not rules.pins:
        return []
    data, lines = ranked.snapshot.data, {item.itemid: item for item in items}
    admitted = data.table.admitted(options.filter, ranked.user.seen if ranked.user else ())
    found = []
    for pin, row in zip(rules.pins, data.table.rows([pin.itemid for pin in rules.pins]).tolist(), strict=True):
        if row >= 0 and admitted[row]:
            line = lines.get(pin.itemid) or _line_of(pin.itemid, data, ranked.user)
            acted[pin.itemid].append(pin.name)
            found.append((pin, line))
    return found


def _line_of(itemid: int, data: ServingData, user: UserRecall | None) -> ScoredItem:
    """The line of an item that no recall found, with the recall score that it would have; 0 without a vector."""
    score, item = 0.0, data.items[itemid]
    if user and len(user.vector) == data.vectors.shape[1]:
        is_liked = not set(user.terms).isdisjoint(item.genres)
        score = float(data.vectors_of([itemid])[0] @ np.array(user.vector, np.float32)) + TERM_BONUS * is_liked
    return ScoredItem(itemid, score, score, None, (RULE,))
