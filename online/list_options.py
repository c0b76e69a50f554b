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
    """

    within: ItemFilter = EVERYTHING
    shown: tuple[int, ...] = ()
    diversity: float = DEFAULT_DIVERSITY

    @property
    def filter(self) -> ItemFilter:
        """Which items the search may find: those of `within` that were not shown."""
        if not self.shown:
            return self.within
        return replace(self.within, left_out=(*self.within.left_out, *self.shown))


PLAIN = ListOptions()
