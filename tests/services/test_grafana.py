"""Establishes that the Grafana dashboard asks for nothing that /metrics does not have."""

import json
import re
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from online.main import metrics
from tests.conftest import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "services/grafana/recsys.json").read_text("utf-8"))
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}
ADDED = {"le", "instance"}  # by Prometheus and its client
DECLARED = {value._name: value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)}
SERVED = {f"{name}{suffix}": name for name, metric in DECLARED.items() for suffix in SUFFIXES[metric._type]}
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("query", [*QUERIES, *(v["query"]["query"] for v in DASHBOARD["templating"]["list"][1:])])
def test_a_query_names_metrics_and_labels_that_are_served(query: str) -> None:
    names = re.findall(r"\brecsys_\w+", query)
    assert names and set(names) <= set(SERVED), f"{query} asks for {set(names) - set(SERVED)}"
    labels = {label for name in names for label in DECLARED[SERVED[name]]._labelnames} | ADDED
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r", *", group)}
    assert grouped | set(re.findall(r"[{,](\w+)=", query)) <= labels, query
    assert query.count("(") == query.count(")") and query.count("{") == query.count("}")


def test_every_panel_has_its_place_and_a_declared_source() -> None:
    assert DECLARED.keys() <= {family.name for family in REGISTRY.collect()}
    panels = DASHBOARD["panels"]
    taken = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(taken)) == len(taken) and max(x for x, _ in taken) < 24, "panels overlap, or are too wide"
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {f"${{{variable['name']}}}" for variable in DASHBOARD["templating"]["list"]}
    assert {panel["datasource"]["uid"] for panel in panels} <= variables
