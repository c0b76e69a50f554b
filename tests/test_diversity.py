"""Establishes what the benchmark of diversity measures of a list, and that it chooses the largest that costs little."""

from typing import Any

import numpy as np
import pytest

from benchmarks.quality import diversity
from benchmarks.quality.diversity import METRICS, TRIED, measure, metrics_of


def test_the_metrics_of_a_list_are_those_of_its_pairs() -> None:
    drawn = np.random.default_rng(3)
    vectors, genres = (np.abs(drawn.normal(size=(30, 4))).astype(np.float32) for _ in range(2))
    genres *= genres > 0.8
    for directions in (vectors, genres):
        directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    top, hits = drawn.permutation(30)[:12], np.zeros(12)
    hits[[0, 3]] = 1
    found = dict(zip(METRICS, metrics_of(top, hits, 4, vectors, genres), strict=True))
    pairs = [(a, b) for a in top for b in top if a != b]
    assert found["likeness@50"] == pytest.approx(np.mean([vectors[a] @ vectors[b] for a, b in pairs]), abs=1e-6)
    assert found["genre likeness@50"] == pytest.approx(np.mean([genres[a] @ genres[b] for a, b in pairs]), abs=1e-6)
    assert found["genres@10"] == len({g for item in top[:10] for g in np.flatnonzero(genres[item])})
    ideal = sum(1 / np.log2(place + 2) for place in range(4))
    assert found["ndcg@50"] == pytest.approx((1 + 1 / np.log2(5)) / ideal)


def test_the_largest_diversity_that_costs_at_most_a_hundredth_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses grow with the diversity; the one whose interval reaches beyond the bound is not chosen."""
    ndcg = 0.5 + 0.1 * np.random.default_rng(1).normal(size=400)
    losses = {tried: 0.04 * tried for tried in TRIED}
    found: dict[float, Any] = {tried: {name: ndcg * (1 - loss) for name in METRICS} for tried, loss in losses.items()}
    found[0.25][METRICS[0]] = ndcg * (1 - 0.0099) + 0.05 * np.random.default_rng(2).normal(size=400)
    monkeypatch.setattr(diversity, "metrics_by_diversity", lambda: (np.arange(400), found))
    report = measure(seed=1)
    assert report["chosen"] == 0.2 and report["lists"] == 400
    assert report["by_diversity"]["0.4"]["ndcg_lost"]["value"] == pytest.approx(0.016)
