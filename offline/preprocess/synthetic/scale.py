"""How much the generator writes."""

from dataclasses import dataclass

MINIMUM_RATINGS = 20


@dataclass(frozen=True)
class Scale:
    """How much to generate; the defaults are those of ML-1M."""

    users: int = 6040
    items: int = 3883
    ratings: int = 1_000_209
    max_userid: int = 6040
    max_itemid: int = 3952

    def __post_init__(self) -> None:
        """Refuses a scale that cannot be drawn."""
        if not self.users * MINIMUM_RATINGS <= self.ratings <= self.users * self.items // 2:
            raise ValueError(
                f"{self.ratings} ratings of {self.users} users over {self.items} items cannot be generated: each user "
                f"rates at least {MINIMUM_RATINGS} items and on average at most half of them."
            )
        if self.max_userid < self.users or self.max_itemid < self.items:
            raise ValueError("max_userid and max_itemid must leave room for an id each.")
