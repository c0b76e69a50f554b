"""Metrics with their intervals: of one system, of the difference between two, and of groups of users."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality.list_metrics import KS, PerUser
from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, Float64Array
from data_exchange_center.columns import Column
from data_exchange_center.tables import rows_by_key
from data_exchange_center.vocabularies import AGE_LABELS, indices
from offline.metrics import Bootstrap, interval

DIFFERENCE_METRICS = (f"recall@{KS[1]}", f"ndcg@{KS[1]}", f"ndcg@{KS[0]}")
GROUP_METRICS = DIFFERENCE_METRICS[:2]
MOST_GROUPS = 10  # of users by one category: more would be too small to tell anything


def verdict(low: float, high: float) -> str:
    """What the interval of a difference shows."""
    return "higher" if low > 0 else "lower" if high < 0 else "no difference shown"


def summary(metrics: PerUser, bootstrap: Bootstrap) -> dict[str, Any]:
    """Mean and interval of each metric that at least one user has."""
    return {
        name: {"value": float(np.nanmean(values)), "interval": interval(bootstrap.means(values))}
        for name, values in metrics.items()
        if np.isfinite(values).any()
    }


def difference(one: Float64Array, other: Float64Array, bootstrap: Bootstrap) -> dict[str, Any]:
    """One system's gain over another on the same users, called a difference only where its interval leaves out 0."""
    gain = one - other
    low, high = interval(bootstrap.means(gain))
    return {"value": float(np.nanmean(gain)), "interval": (low, high), "verdict": verdict(low, high)}


def differences(metrics: Mapping[str, PerUser], served: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """The gain of the system `served` over each of the others."""
    return {
        f"{served} - {name}": {
            metric: difference(metrics[served][metric], others[metric], bootstrap) for metric in DIFFERENCE_METRICS
        }
        for name, others in metrics.items()
        if name != served
    }


def _label(column: str, category: str) -> str:
    return AGE_LABELS.get(category, category) if column == Column.AGE else category


def user_groups(users: Sequence[int]) -> dict[str, dict[str, BoolArray]]:
    """[users] who belongs to which group, by what they are grouped by."""
    people = rows_by_key(catalogue.USERS.load(), Column.USERID, np.array(users))
    rows = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID])[Column.USERID].to_numpy()
    counts = np.searchsorted(rows, users, "right") - np.searchsorted(rows, users, "left")
    few, many = np.quantile(counts, [1 / 3, 2 / 3])
    by_category = {
        name: {_label(name, value): people[name].to_numpy() == index for value, index in indices(values).items()}
        for name, values in catalogue.DATASET.load().categories.user.items()
        if len(values) <= MOST_GROUPS
    }
    return {
        "ratings": {
            f"few (up to {few:.0f})": counts <= few,
            "between": (counts > few) & (counts <= many),
            f"many (over {many:.0f})": counts > many,
        },
        **by_category,
    }


def metrics_by_group(metrics: Mapping[str, PerUser], users: Sequence[int], bootstrap: Bootstrap) -> dict[str, Any]:
    """The metrics of these systems for each group of users that has a member."""
    report: dict[str, Any] = {}
    for grouped_by, groups in user_groups(users).items():
        for name, members in groups.items():
            if not members.any():
                continue
            group: dict[str, Any] = {"users": int(members.sum())}
            for system, of_users in metrics.items():
                of_members = {metric: np.where(members, of_users[metric], np.nan) for metric in GROUP_METRICS}
                group[system] = summary(of_members, bootstrap)
            report.setdefault(grouped_by, {})[name] = group
    return report
