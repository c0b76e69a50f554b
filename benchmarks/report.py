"""What all reports share: the machine that they were measured on, tables, and where they are written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate

from data_exchange_center.settings import Settings

Report = Mapping[str, Any]


def machine() -> dict[str, Any]:
    """The number of cores and the load average, which are written beside everything that is measured."""
    return {"cores": psutil.cpu_count(), "load_average": [round(load, 2) for load in psutil.getloadavg()]}


def measured_on(report: Report) -> str:
    """The sentence that stands over every table."""
    cores = report["machine"]["cores"]
    load = ", ".join(map(str, report["machine"]["load_average"]))
    return f"Data set {report['dataset']}, seed {report['seed']}; {cores} cores, load average {load}."


def table(rows: list[list[object]], headers: list[str]) -> str:
    """A Markdown table."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def value_in(value: float, interval: Sequence[float], spec: str = "+.4f") -> str:
    """A value with its interval, both as the format says."""
    low, high = interval
    return f"{value:{spec}} ({low:{spec}} to {high:{spec}})"


def run_folder(settings: Settings) -> Path:
    """RUN_DIR, where reports are written; git ignores it."""
    folder = settings.folder(settings.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def charts_folder(settings: Settings) -> Path:
    """The charts' folder, beside the reports."""
    folder = run_folder(settings) / "charts"
    folder.mkdir(exist_ok=True)
    return folder


def write_report(settings: Settings, name: str, report: Report, text: str | None = None) -> None:
    """Writes RUN_DIR/{name}.json and, where there is a `text`, RUN_DIR/{name}.md."""
    folder = run_folder(settings)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    if text is not None:
        (folder / f"{name}.md").write_text(text, "utf-8")


def read_report(settings: Settings, name: str) -> Report | None:
    """The last report of that name; None where there is none."""
    file = run_folder(settings) / f"{name}.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else None
