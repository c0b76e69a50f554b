"""What a request asks of its list beside for whom it is and how long."""

from dataclasses import dataclass, replace

from online.callers.types import EVERYTHING, ItemFilter
from online.diversity import DEFAULT_DIVERSITY


@dataclass(frozen=True)
class ListOptions:
    """How a list is to be made.

    Attributes:
        within: which items it may hold.
        shown: ids of the items that stand on the pages before.
        diversity: 0 to 1; see diversity.py.
        is_ranked: whether the ranking model orders it; else the recall scores do.
        index: of Elasticsearch, by name or alias, in place of the served one, and of the same load; empty: the served.
    """

    within: ItemFilter = EVERYTHING
    shown: tuple[int, ...] = ()
    diversity: float = DEFAULT_DIVERSITY
    is_ranked: bool = True
    index: str = ""

    @property
    def filter(self) -> ItemFilter:
        """Which items the search may find: those of `within` that were not shown."""
        if not self.shown:
            return self.within
        return replace(self.within, left_out=(*self.within.left_out, *self.shown))


PLAIN = ListOptions()
