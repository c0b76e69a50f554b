"""What callers take and give; nothing mutable is handed along."""

from dataclasses import dataclass


class ServiceUnavailable(Exception):
    """A service did not answer, or not in time, or not with what it should."""

    is_expected = True

    def __init__(self, service: str, reason: object) -> None:
        """Keeps the service's name, which the answer's `degraded` lists."""
        super().__init__(f"{service} cannot be used: {reason}")
        self.service = service


@dataclass(frozen=True, slots=True)
class UserRecall:
    """What recall needs of a user: liked genres, vector, items seen."""

    terms: tuple[str, ...]
    vector: tuple[float, ...]
    seen: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recalled item; `es_score` is Elasticsearch's own score, see scoring.recall_scores."""

    itemid: int
    es_score: float
    by_term: bool
    by_vector: bool


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """One line of the answer. `logit` is None where the ranking model had no say."""

    itemid: int
    score: float
    recall_score: float
    logit: float | None
    recalled_by: tuple[str, ...]
