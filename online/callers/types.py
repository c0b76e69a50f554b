"""What callers take and give; nothing mutable is handed along."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class ServiceUnavailable(Exception):
    """A service did not answer, or not in time, or not with what it should."""

    is_expected = True

    def __init__(self, service: str, reason: object) -> None:
        """Keeps the service's name, which the answer's `degraded` lists."""
        super().__init__(f"{service} cannot be used: {reason}")
        self.service = service


@dataclass(frozen=True, slots=True)
class UserRecall:
    """What recall needs of a user: liked genres, vector (empty where there is none yet), items seen."""

    terms: tuple[str, ...]
    vector: tuple[float, ...]
    seen: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Impression:
    """A rated item; `timestamp` in seconds."""

    itemid: int
    rating: float
    timestamp: int


@dataclass(frozen=True, slots=True)
class LiveUser:
    """What an event changes in Redis: liked genres, items seen, and the impressions in the window, oldest first.

    `events` are all accepted since the last load, by arrival: an event that is among them, or in the window, has been
    counted.
    """

    terms: tuple[str, ...]
    seen: tuple[int, ...]
    recent: tuple[Impression, ...]
    events: tuple[Impression, ...]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the loaded model says of itself; the loader writes it into the model's configuration."""

    version: str
    columns: tuple[str, ...]
    feature_hash: str
    state_digest: str
    blend_weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The n recalled items, best first, column by column; of `es_scores` see scoring.recall_scores."""

    itemids: npt.NDArray[np.int64]
    es_scores: npt.NDArray[np.float64]
    by_term: npt.NDArray[np.bool_]
    by_vector: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """How many."""
        return len(self.itemids)


NO_CANDIDATES = Candidates(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.bool_), np.empty(0, np.bool_))


class ScoredItem(NamedTuple):
    """One line of the answer. `logit` is None where the ranking model had no say."""

    itemid: int
    score: float
    recall_score: float
    logit: float | None
    recalled_by: tuple[str, ...]
