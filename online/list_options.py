"""What a request asks of its list beside for whom it is and how long."""

from dataclasses import dataclass

from online.callers.types import EVERYTHING, ItemFilter


@dataclass(frozen=True)
class ListOptions:
    """How a list is to be made.

    Attributes:
        within: which items it may hold.
    """

    within: ItemFilter = EVERYTHING


PLAIN = ListOptions()
