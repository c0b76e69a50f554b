"""The tables of the simulation."""

from typing import Any

from benchmarks.loop.evaluation import ACTING, EXPECTED, PANEL, RECALL, SYSTEMS
from benchmarks.quality.tables import with_interval
from benchmarks.report import measured_on, table, value_in


def loop_tables(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    parts, rounds = [measured_on(report)], report["rounds"]
    for group, metric in ((PANEL, EXPECTED), (ACTING, EXPECTED), (ACTING, RECALL)):
        rows: list[list[object]] = []
        for one in rounds:
            own = one["groups"][group]
            cells = [with_interval(own["systems"][name][metric]) for name in SYSTEMS]
            gains = [own.get(name, {}).get(metric) for name in ("gain", "gain_over_never_retrained")]
            gained = [value_in(gain["value"], gain["interval"], "+.3f") if gain else "" for gain in gains]
            rows.append([one["round"], *cells, *gained])
        headers = ["retrainings", *SYSTEMS, "gain on the round before", "gain over never retrained"]
        parts += [f"{metric.capitalize()}, {group}:", table(rows, headers)]
    rows = [
        [one["round"], *(f"{one['coverage'][name]:.0%}" for name in SYSTEMS), one["events"], _gate(one)]
        for one in rounds
    ]
    parts += ["Share of the catalogue in some list:", table(rows, ["retrainings", *SYSTEMS, "events", "gate"])]
    parts += ["What each retraining gained on the rows that the gate compares both models on:", _gained(rounds)]
    return "\n\n".join(parts) + "\n"


def _gained(rounds: list[dict[str, Any]]) -> str:
    """The gate's differences: the same users in the same state, and so without what they have used up since."""
    gates = {one["round"] + 1: one["gate"] for one in rounds if one.get("gate")}
    names = list(next(iter(gates.values()), {}))
    rows = [
        [number, *(value_in(m["difference"]["value"], m["difference"]["interval"], "+.3f") for m in gate.values())]
        for number, gate in gates.items()
    ]
    return table(rows, ["retraining", *names])


def _gate(one: dict[str, Any]) -> str:
    return {True: "promoted", False: "refused", None: ""}[one.get("promoted")]
