"""What the lists with a shadow show: how another version of the ranking model would have ordered what was shown.

Two questions. How much of a list would the other version have shown too? And of an item that the user liked and another
one of the same list, which did each version put first? The served order has an advantage in the second: what it puts
higher is looked at more. A shadow that is as good all the same is worth an experiment.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.quality.experiment_report import mean_interval, user_means
from benchmarks.report import table, value_in
from data_exchange_center.columns import Column, LogColumn
from data_exchange_center.log_tables import LIST_KEY
from offline.metrics import Interval

LIKED, OTHER = "_liked", "_other"  # suffixes of the columns of pairs


@dataclass(frozen=True)
class Mean:
    """A mean over users with its interval."""

    users: int
    value: float
    interval: Interval


@dataclass(frozen=True)
class ShadowReport:
    """What one version in the shadow shows.

    Attributes:
        lists: with its scores.
        overlap: of the shown items the share among as many first ones of the shadow's.
        served_right, shadow_right: of the pairs of a liked item and another one of its list, the share in which each
            order has the liked one first.
        difference: the shadow's share less the served order's.

    Each is None where fewer than two users have a value.
    """

    lists: int
    overlap: Mean | None
    served_right: Mean | None
    shadow_right: Mean | None
    difference: Mean | None


def over_users(users: pd.Series, values: pd.Series) -> Mean | None:
    """The mean of the users' own means; None of fewer than two users.

    Args:
        users: [rows] whose each value is.
        values: [rows].
    """
    _, of_users = user_means(users.to_numpy(np.int64), values.to_numpy(np.float64))
    if len(of_users) < 2:
        return None
    return Mean(len(of_users), float(of_users.mean()), mean_interval(of_users))


def pairs(shown: pd.DataFrame, exposures: pd.DataFrame) -> pd.DataFrame:
    """A row for each liked item and each other one of its list: the places of both.

    All that was shown counts, seen or not: of what was seen a single like is always the last.

    Args:
        shown: IMPRESSIONS_LOG with shadows, at least LIST_KEY, the user, the position and the shadow's.
        exposures: EXPOSURES, at least LIST_KEY, the position and the label.
    """
    columns = [*LIST_KEY, Column.USERID, LogColumn.POSITION, LogColumn.SHADOW_POSITION]
    scored = shown.loc[shown[LogColumn.SHADOW_POSITION] > 0, columns]
    likes = exposures.loc[exposures[Column.LABEL] == 1, [*LIST_KEY, LogColumn.POSITION]]
    marked = scored.merge(likes, on=[*LIST_KEY, LogColumn.POSITION], how="left", indicator="found")
    is_liked = marked.pop("found") == "both"
    return marked[is_liked].merge(marked[~is_liked], on=[*LIST_KEY, Column.USERID], suffixes=(LIKED, OTHER))


def shadow_report(shown: pd.DataFrame, exposures: pd.DataFrame) -> ShadowReport:
    """What one version shows.

    Args:
        shown: rows of IMPRESSIONS_LOG with its scores; columns as for `pairs`.
        exposures: as for `pairs`.
    """
    size = shown.groupby(LIST_KEY)[LogColumn.POSITION].transform("size")
    scored = shown[LogColumn.SHADOW_POSITION] > 0
    kept = shown.loc[scored, LogColumn.SHADOW_POSITION] <= size[scored]
    of_pairs = pairs(shown, exposures)
    served, shadow = (
        pd.Series(of_pairs[column + LIKED] < of_pairs[column + OTHER]).astype(np.float64)
        for column in (LogColumn.POSITION, LogColumn.SHADOW_POSITION)
    )
    users = of_pairs[Column.USERID]
    return ShadowReport(
        lists=len(shown[LIST_KEY].drop_duplicates()),
        overlap=over_users(shown.loc[scored, Column.USERID], kept.astype(np.float64)),
        served_right=over_users(users, served),
        shadow_right=over_users(users, shadow),
        difference=over_users(users, shadow - served),
    )


def told(version: str, found: ShadowReport) -> str:
    """One version's report, as Markdown."""
    names = {
        "shown items that it would have shown too": found.overlap,
        "liked items before others, as served": found.served_right,
        "liked items before others, by the shadow": found.shadow_right,
        "the shadow's gain": found.difference,
    }
    rows: list[list[object]] = [
        [name, f"{mean.users:,}", value_in(mean.value, mean.interval, ".4f")] if mean else [name, "", "too few users"]
        for name, mean in names.items()
    ]
    return f"## Version {version} in the shadow of {found.lists:,} lists\n\n" + table(rows, ["", "users", "mean, 95 %"])
