"""A list that was sent, and who takes it then."""

from dataclasses import dataclass
from typing import Protocol

from online.recommendation import Recommendation


@dataclass(frozen=True)
class Shadow:
    """What another version makes of a list's candidates.

    Attributes:
        version: of the ranking model.
        scores: [n] its rank scores of the list's n items, with the offsets of rules; 0 where the position is.
        positions: [n] the items' places, from 1, in its order of all candidates; 0 for one that was none, or is pinned.
    """

    version: str
    scores: list[float]
    positions: list[int]


@dataclass(frozen=True, eq=False)
class Shown:
    """A list that was sent: to whom, by which request, when (milliseconds since 1970), all about it, and its shadow."""

    recommendation: Recommendation
    userid: int
    request_id: str
    time: int
    shadow: Shadow | None = None


class Log(Protocol):
    """Takes lists that were sent."""

    def put(self, shown: Shown) -> None:
        """Hands over a list; returns at once."""

    def close(self) -> None:
        """Writes what waits."""
