"""What the experiments of EXPERIMENTS_FILE show, from the lists that were logged and what users did with them.

    python -m benchmarks.quality.experiments        (or: make experiment-report, which drains the log first)

A list is worth 1 where the user liked an item of it, else 0; a user is worth the mean of their lists. All lists of an
arm count, degraded ones as well: that an arm fails more often is part of what it does. Users whose lists are of more
than one arm, as after a change of the weights, are left out and counted. Of an interleaved experiment the report is
whose items its users liked (preferences.py); of versions in the shadow, how they would have ordered what was shown
(shadow_report.py).

Writes experiments.json and .md under RUN_DIR; ends with status 1 where the arms' sizes cannot be what the weights say,
and nothing else is to be believed.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.quality.experiment_report import ExperimentReport, ReportError, report, user_means, users_needed
from benchmarks.quality.preferences import preference, preferences
from benchmarks.quality.preferences import told as preferences_told
from benchmarks.quality.shadow_report import ShadowReport, shadow_report
from benchmarks.quality.shadow_report import told as shadow_told
from benchmarks.report import machine, measured_on, table, value_in, write_report
from data_exchange_center import catalogue
from data_exchange_center.arrays import FloatArray, Int64Array
from data_exchange_center.columns import Column, LogColumn
from data_exchange_center.log_tables import LIST_KEY
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from online.experiments import Experiment, experiments_of

LIKED = "liked"
EXPOSURE_COLUMNS = [*LIST_KEY, LogColumn.POSITION, Column.USERID, Column.LABEL, LogColumn.ARM, LogColumn.TEAM]
SHADOW_COLUMNS = [LogColumn.SHADOW_VERSION, LogColumn.SHADOW_POSITION]
LOG_COLUMNS = [*LIST_KEY, LogColumn.POSITION, Column.USERID, LogColumn.ARM, *SHADOW_COLUMNS]
GAIN = 0.05  # for which the users needed are told


@dataclass(frozen=True)
class TakingPart:
    """The users of an experiment who have lists.

    Attributes:
        arms: [users] the place of each one's arm.
        values: [users] what each one's lists were worth on average.
        in_several: users who are left out, since their lists are of more than one arm.
    """

    arms: Int64Array
    values: FloatArray
    in_several: int


def lists_shown(impressions: pd.DataFrame, exposures: pd.DataFrame) -> pd.DataFrame:
    """A row for each list that was shown: whose it is, of which arms, and whether an item of it was liked.

    Args:
        impressions: IMPRESSIONS_LOG, at least LIST_KEY, the user and the arm.
        exposures: EXPOSURES, at least LIST_KEY and the label.
    """
    lists = impressions.drop_duplicates(LIST_KEY)[[*LIST_KEY, Column.USERID, LogColumn.ARM]]
    liked = exposures.loc[exposures[Column.LABEL] == 1, LIST_KEY].drop_duplicates().assign(**{LIKED: 1.0})
    return lists.merge(liked, on=LIST_KEY, how="left").fillna({LIKED: 0.0})


def taking_part(lists: pd.DataFrame, experiment: Experiment) -> TakingPart:
    """The users of an experiment, from `lists_shown`."""
    labels = {f"{experiment.name}:{arm.name}": place for place, arm in enumerate(experiment.arms)}
    distinct = lists[LogColumn.ARM].unique()  # a few, however many lists there are
    places = {text: _place(text.split("+"), labels) for text in distinct}
    arms = lists[LogColumn.ARM].map(places).to_numpy(np.int64)
    of_experiment = arms >= 0
    users, arms = lists[Column.USERID].to_numpy()[of_experiment], arms[of_experiment]
    known, values = user_means(users, lists[LIKED].to_numpy()[of_experiment])
    row = np.searchsorted(known, users)
    first, last = np.full(len(known), len(labels)), np.full(len(known), -1)
    np.minimum.at(first, row, arms)
    np.maximum.at(last, row, arms)
    is_one = first == last
    return TakingPart(first[is_one], values[is_one], int((~is_one).sum()))


def _place(arms: Sequence[str], labels: dict[str, int]) -> int:
    return next((labels[arm] for arm in arms if arm in labels), -1)


def shown(experiment: Experiment, found: TakingPart, content: ExperimentReport) -> str:
    """One experiment, as Markdown."""
    rates: list[list[object]] = [
        [arm.arm, f"{arm.users:,}", value_in(arm.rate, arm.interval, ".4f")] for arm in content.arms
    ]
    gains: list[list[object]] = [
        [
            gain.arm,
            value_in(gain.value, gain.interval),
            f"{gain.bootstrap[0]:+.4f} to {gain.bootstrap[1]:+.4f}",
            f"{gain.p:.3g}",
        ]
        for gain in content.differences
    ]
    sizes = "fit the weights" if content.sizes_fit else "DO NOT fit the weights: users were lost on the way"
    return "\n\n".join(
        [
            f"## {experiment.name}",
            table(rates, ["arm", "users", "lists with a liked item, 95 %"]),
            table(gains, [f"over {experiment.arms[0].name}", "difference, 95 %", "by bootstrap", "p"]),
            f"The arms' sizes {sizes} (p {content.sizes_p:.3g}); {found.in_several} users in several arms left out.",
        ]
    )


def needed(experiment: Experiment, found: TakingPart) -> str:
    """How many users a gain of GAIN takes, with the first arm's users as the pilot."""
    first = found.values[found.arms == 0]
    try:
        users = users_needed(first, GAIN)
    except ReportError as error:
        return f"How long to go on cannot be told: {error}"
    return f"To find a gain of {GAIN:.0%} with power 0.8, two equal arms of {experiment.name} need {users:,} users."


def shadows(log: pd.DataFrame, exposures: pd.DataFrame) -> dict[str, ShadowReport]:
    """The report of each version that scored lists in the shadow, by the version."""
    with_shadow = log[log[LogColumn.SHADOW_VERSION].notna()]
    seen = exposures[[*LIST_KEY, LogColumn.POSITION, Column.LABEL]]
    return {
        str(version): shadow_report(of_version, seen)
        for version, of_version in with_shadow.groupby(LogColumn.SHADOW_VERSION)
    }


def section(
    experiment: Experiment, lists: pd.DataFrame, exposures: pd.DataFrame, seed: int
) -> tuple[str, dict[str, Any]]:
    """What one experiment shows, as Markdown and as the report has it.

    Args:
        experiment: one of the file.
        lists: as from `lists_shown`.
        exposures: EXPOSURES.
        seed: of the bootstrap.

    Raises:
        ReportError: too few users have done anything.
    """
    if experiment.interleaved:
        preferred = preference(preferences(exposures, experiment))
        return preferences_told(experiment, preferred), asdict(preferred)
    found = taking_part(lists, experiment)
    arms = [arm.name for arm in experiment.arms]
    of_experiment = report(arms, experiment.propensities, found.arms, found.values, seed)
    text = f"{shown(experiment, found, of_experiment)}\n\n{needed(experiment, found)}"
    return text, {**asdict(of_experiment), "in_several": found.in_several}


def main() -> None:
    """Reads the drained log, prints and writes what each experiment shows."""
    settings = Settings()
    experiments = experiments_of(settings).experiments
    if not experiments:
        raise ReportError(
            "There is no experiment: name a file in EXPERIMENTS_FILE, as online/experiments.py shows one."
        )
    dataset = catalogue.DATASET.load()
    exposures = catalogue.EXPOSURES.load(EXPOSURE_COLUMNS).to_pandas()
    log = catalogue.IMPRESSIONS_LOG.load(LOG_COLUMNS).to_pandas()
    lists = lists_shown(log, exposures)
    content: dict[str, Any] = {"dataset": dataset.dataset, "seed": dataset.seed, "machine": machine()}
    content |= {"lists": len(lists), "experiments": {}}
    parts, all_fit = ["# Experiments", measured_on(content)], True
    for experiment in experiments:
        try:
            text, of_experiment = section(experiment, lists, exposures, settings.seed)
        except ReportError as error:  # it has hardly begun, and must not hide the others
            text, of_experiment = f"## {experiment.name}\n\nNothing can be said yet: {error}", None
        parts.append(text)
        content["experiments"][experiment.name] = of_experiment
        all_fit &= of_experiment is None or of_experiment.get("sizes_fit", True)
    of_shadows = shadows(log, exposures)
    parts += [shadow_told(version, of_shadow) for version, of_shadow in of_shadows.items()]
    content["shadows"] = {version: asdict(of_shadow) for version, of_shadow in of_shadows.items()}
    text = "\n\n".join(parts) + "\n"
    write_report(settings, "experiments", content, text)
    print(text)
    if not all_fit:
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
