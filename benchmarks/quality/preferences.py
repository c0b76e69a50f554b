"""What an interleaved experiment shows: whose items its users liked, where they could choose between both arms'.

A user's preference is how many items they liked that the second arm's team had picked, less the first's. The user is
the unit here as well: what one of them likes is alike.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.quality.experiment_report import ReportError, mean_interval
from benchmarks.report import table, value_in
from data_exchange_center.arrays import FloatArray
from data_exchange_center.columns import Column, LogColumn
from offline.metrics import Interval
from online.experiments import INTERLEAVED, Experiment


@dataclass(frozen=True)
class Preference:
    """What the users of both arms' lists prefer.

    Attributes:
        users: who liked something of a team.
        for_second, for_first: how many of them liked more of that arm's; the others liked as much of both.
        value: the mean preference, in items a user: above 0 where the second arm is liked better.
        interval: of the mean, by Student's t.
        p: that users who prefer neither arm would differ so much, two-sided.
    """

    users: int
    for_second: int
    for_first: int
    value: float
    interval: Interval
    p: float


def preferences(exposures: pd.DataFrame, experiment: Experiment) -> FloatArray:
    """[users] of the experiment who liked something of a team, the preference of each.

    Args:
        exposures: EXPOSURES, at least the user, the label, the arm and the team.
        experiment: an interleaved one.
    """
    label = f"{experiment.name}:{INTERLEAVED}"
    of_experiment = {arm for arm in exposures[LogColumn.ARM].unique() if label in arm.split("+")}
    first, second = (arm.name for arm in experiment.arms)
    side = exposures[LogColumn.TEAM].map({first: -1.0, second: 1.0})
    liked = exposures[LogColumn.ARM].isin(of_experiment) & (exposures[Column.LABEL] == 1) & side.notna()
    found: FloatArray = side[liked].groupby(exposures.loc[liked, Column.USERID]).sum().to_numpy(np.float64)
    return found


def preference(of_users: FloatArray) -> Preference:
    """What some users prefer together.

    Args:
        of_users: as from `preferences`.

    Raises:
        ReportError: there are fewer than two, or all prefer alike, so that no interval can be made.
    """
    if len(np.unique(of_users)) < 2:
        raise ReportError(
            f"{len(of_users)} users liked an item of an interleaved list, and no two of them prefer otherwise: let the "
            "experiment run on."
        )
    return Preference(
        users=len(of_users),
        for_second=int((of_users > 0).sum()),
        for_first=int((of_users < 0).sum()),
        value=float(of_users.mean()),
        interval=mean_interval(of_users),
        p=float(stats.ttest_1samp(of_users, 0).pvalue),
    )


def told(experiment: Experiment, found: Preference) -> str:
    """An interleaved experiment, as Markdown."""
    first, second = (arm.name for arm in experiment.arms)
    row: list[object] = [
        f"{found.users:,}",
        f"{found.for_first:,}",
        f"{found.for_second:,}",
        value_in(found.value, found.interval),
        f"{found.p:.3g}",
    ]
    columns = [
        "users who liked an item",
        f"more of {first}'s",
        f"more of {second}'s",
        f"more liked of {second}'s, items a user, 95 %",
        "p",
    ]
    return f"## {experiment.name}\n\n{table([row], columns)}"
