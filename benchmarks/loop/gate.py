"""The gate: a new model is promoted only if it is not worse than the old one, on rows that neither was fitted to.

The rows are the latest ones of users who have acted since: the data set keeps each user's last rows out of every fit,
so that those of the new model's data are held back from both models. Three metrics are compared, with paired bootstrap
intervals over users: NDCG@10 and Recall@50 of the lists, and the AUC of the predicted like over the rows. Some of what
is to be found was chosen of lists that the old model made, which speaks for it: a gate errs on that side.

The new model is refused if for any of them

- the interval of the difference, new - old, lies below 0: it is worse; or
- the interval reaches below -LARGEST_LOSS times the old model's value: these rows cannot tell that it is not;

and where fewer than LEAST_USERS users have a positive among their latest rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.loop.contender import Contender, LatestRows
from benchmarks.quality.comparison import difference, verdict
from benchmarks.quality.list_metrics import accuracy
from benchmarks.report import table
from data_exchange_center.arrays import Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.settings import Settings
from offline.metrics import Bootstrap, auc, interval
from offline.preprocess.readers.layout import DataSource

LIST_METRICS = ("ndcg@10", "recall@50")
AUC = "auc"
LARGEST_LOSS = 0.1  # as a share of the old model's value
LEAST_USERS = 50
MOST_USERS = 5_000  # a sample of more is as good, and takes a minute


@dataclass(frozen=True)
class Gate:
    """What the comparison showed.

    Attributes:
        users: who have a positive among their latest rows.
        metrics: of each metric, `old`, `new` and `difference` with `value`, `interval` and `verdict`.
        refusals: why the new model is not promoted; none where it is.
    """

    users: int
    metrics: dict[str, Any]
    refusals: list[str]

    def table(self) -> str:
        """As Markdown."""
        rows = [
            [name, *(f"{m[which]:.4f}" for which in ("old", "new")), f"{m['difference']['value']:+.4f}", _range(m)]
            for name, m in self.metrics.items()
        ]
        headers = ["metric", "old", "new", "new - old", "95 % interval"]
        return table([list(row) for row in rows], headers)


def _range(metric: dict[str, Any]) -> str:
    low, high = metric["difference"]["interval"]
    return f"{low:+.4f} to {high:+.4f}"


def compare(old: Path, new: Path, data: DataSource, acted: Int64Array) -> Gate:
    """Compares the models of two roots of artefacts.

    Args:
        old, new: the roots.
        data: the raw data, with the events: the truth that both are compared on.
        acted: ids of the users who have acted since the old model's data.
    """
    seed = Settings().seed
    users = np.unique(acted)
    if len(users) > MOST_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, MOST_USERS, replace=False))
    rows = LatestRows.of(data, users)
    relevant = rows.relevant()
    evaluated = sorted(set(relevant) & set(rows.before[Column.USERID].to_pylist()))
    if len(evaluated) < LEAST_USERS:
        reason = f"{len(evaluated)} users have liked something in their latest rows; {LEAST_USERS} are needed to tell"
        return Gate(len(evaluated), {}, [reason])
    rows = LatestRows(_of(rows.before, evaluated), _of(rows.latest, evaluated))
    contenders = [Contender.of(artefacts, rows) for artefacts in (old, new)]
    per_user = [accuracy(contender.lists, relevant, evaluated) for contender in contenders]
    bootstrap = Bootstrap(np.array(evaluated), seed)
    metrics: dict[str, Any] = {}
    for name in LIST_METRICS:
        before, after = (values[name] for values in per_user)
        metrics[name] = {
            "old": float(before.mean()),
            "new": float(after.mean()),
            "difference": difference(after, before, bootstrap),
        }
    metrics[AUC] = _aucs(rows, contenders, seed)
    return Gate(len(evaluated), metrics, refusals(metrics))


def _of(rows: pa.Table, users: list[int]) -> pa.Table:
    return rows.filter(pa.array(np.isin(rows[Column.USERID].to_numpy(), users)))


def _aucs(rows: LatestRows, contenders: list[Contender], seed: int) -> dict[str, Any]:
    labels, bootstrap = rows.latest[Column.LABEL].to_numpy(), Bootstrap(rows.latest[Column.USERID].to_numpy(), seed)
    old, new = (auc(labels, contender.logits) for contender in contenders)
    drawn_old, drawn_new = (bootstrap.aucs(labels, contender.logits) for contender in contenders)
    low, high = interval(drawn_new - drawn_old)
    gain = {"value": new - old, "interval": (low, high), "verdict": verdict(low, high)}
    return {"old": old, "new": new, "difference": gain}


def refusals(metrics: dict[str, Any]) -> list[str]:
    """Why a new model with these metrics is not promoted; see this module's beginning for the rule."""
    found = []
    for name, metric in metrics.items():
        low, high = metric["difference"]["interval"]
        if high < 0:
            found.append(f"{name} is lower: the interval of the difference lies below 0")
        elif low < -LARGEST_LOSS * metric["old"]:
            found.append(f"{name} may be lower by more than {LARGEST_LOSS:.0%} of the old model's")
    return found
