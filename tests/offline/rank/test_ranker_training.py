"""Establishes that the rank net learns from the positives of its lists, and that absent candidates teach nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_exchange_center.documents import Objective
from data_exchange_center.limits import RANKER_IMPRESSIONS
from offline.fitting import Schedule
from offline.rank import ranker_selection, ranker_training
from offline.rank.ranker import RANK_FEATURES, CandidateNet
from offline.rank.ranker_training import SAMPLED, TrainingLists, draw_candidates, fit_net, new_net, score_lists

ITEMS, DIM, CANDIDATES = 30, 4, 20
RULE = 7  # the feature that is larger for the positive of a list
VECTORS = torch.randn(ITEMS, DIM, generator=torch.Generator().manual_seed(5))
OBJECTIVES = pytest.mark.parametrize("objective", ["listwise", "pointwise"])


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and large steps: tiny lists need no more."""
    monkeypatch.setattr(ranker_training, "STEPS", 5)
    monkeypatch.setattr(ranker_training, "LEARNING_RATE", 0.03)


def some_lists(count: int = 120, seed: int = 0, absent: int = 0) -> TrainingLists:
    """One positive each; the last `absent` places hold no candidate, and numbers all the same."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, CANDIDATES, RANK_FEATURES, generator=generator)
    candidates = torch.stack([torch.randperm(ITEMS - 1, generator=generator)[:CANDIDATES] + 1 for _ in range(count)])
    candidates[:, CANDIDATES - absent :] = 0
    positive = torch.randint(0, max(CANDIDATES - absent, 1), (count, 1), generator=generator)
    labels = (torch.arange(CANDIDATES) == positive) & (candidates > 0)
    features[:, :, RULE] += 5 * labels
    recent = torch.randint(0, ITEMS, (count, RANKER_IMPRESSIONS), generator=generator)
    return TrainingLists(
        users=np.arange(count),
        features=features,
        candidates=candidates,
        recent=recent,
        liked=(recent % 2) * (recent > 0),
        labels=labels,
        relevant=np.full(count, 2),
        weights=torch.ones(count),
    )


def fitted(lists: TrainingLists, objective: Objective, epochs: int = 2, seed: int = 0) -> CandidateNet:
    net = new_net(lists, DIM, seed)
    fit_net(net, lists, VECTORS, objective, Schedule(epochs), seed)
    return net


def same_weights(one: CandidateNet, other: CandidateNet) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


# --- fits ------------------------------------------------------------------------------------------------------------


@OBJECTIVES
def test_an_obvious_rule_is_learned(objective: Objective) -> None:
    lists, later = some_lists(absent=5), some_lists(seed=1, absent=5)

    def found(net: CandidateNet) -> float:
        scores = score_lists(net, later, VECTORS)
        scores[later.candidates.numpy() == 0] = -np.inf
        return float(np.mean(later.labels.numpy()[np.arange(len(scores)), scores.argmax(axis=1)]))

    net = fitted(lists, objective, epochs=6)
    assert found(new_net(lists, DIM, 0)) < 0.4 and found(net) > 0.8
    assert not net.training


@OBJECTIVES
def test_absent_candidates_teach_nothing(objective: Objective) -> None:
    """Whatever numbers stand in their places: neither the statistics nor the weights change."""
    lists = some_lists(count=40, absent=8)
    changed = lists.features.clone()
    changed[lists.candidates == 0] = 50.0
    one, other = fitted(lists, objective), fitted(replace(lists, features=changed), objective)
    assert same_weights(one, other)
    changed[0, 0] += 1
    assert not same_weights(one, fitted(replace(lists, features=changed), objective))


def test_a_softmax_over_a_list_without_a_positive_teaches_nothing() -> None:
    """It takes part in the standardisation alone; rated items that nobody liked do teach the like head."""
    lists, none = some_lists(count=40), some_lists(count=10, seed=2)
    none.labels[:] = False
    both = lists.empty(50)
    both.fill(0, lists)
    both.fill(40, none)
    one, other = new_net(both, DIM, 0), new_net(both, DIM, 0)
    for net, taught in ((one, lists), (other, both)):
        fit_net(net, taught, VECTORS, "listwise", Schedule(2), 0)
    assert same_weights(one, other) and not same_weights(one, new_net(both, DIM, 0))


@OBJECTIVES
def test_nothing_to_learn_leaves_finite_weights(objective: Objective) -> None:
    lists = some_lists(count=5)
    lists.labels[:] = False
    net = fitted(lists, objective)
    assert all(parameter.isfinite().all() for parameter in net.parameters())
    assert np.isfinite(score_lists(net, lists, VECTORS)).all()


def test_the_same_seed_gives_the_same_weights() -> None:
    """Whatever random numbers were drawn before the fit."""
    lists, nets = some_lists(count=40), []
    for seed in (1, 1, 2):
        nets.append(new_net(lists, DIM, 0))
        torch.rand(len(nets))
        fit_net(nets[-1], lists, VECTORS, "listwise", Schedule(2), seed)
    assert same_weights(nets[0], nets[1]) and not same_weights(nets[0], nets[2])
    assert not same_weights(new_net(lists, DIM, 0), new_net(lists, DIM, 1))


def test_a_new_net_standardises_by_the_candidates_that_are_there() -> None:
    lists = some_lists(count=40, absent=8)
    net, there = new_net(lists, DIM, 0), lists.features[:, :-8].flatten(0, 1)
    np.testing.assert_allclose(net.mean, there.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.std, there.std(0, unbiased=False), rtol=1e-4)
    assert not new_net(some_lists(count=3, absent=CANDIDATES), DIM, 0).mean.any()


# --- one step --------------------------------------------------------------------------------------------------------


def slow_loss(
    scores: np.ndarray, labels: np.ndarray, present: np.ndarray, objective: str, of_lists: np.ndarray
) -> float:
    """Candidate by candidate of those that are there."""
    losses, weights = [], []
    for own, liked, there, weight in zip(scores, labels, present, of_lists, strict=True):
        for score, like in zip(own[there], liked[there], strict=True):
            if objective == "pointwise":
                losses.append(np.log1p(np.exp(-score if like else score)))
            elif like:
                losses.append(np.log(np.exp(own[there]).sum()) - score)
        weights += [weight] * (len(losses) - len(weights))
    return float(np.mean(np.multiply(losses, weights)))


@OBJECTIVES
def test_losses_equal_slow_ones(objective: Objective) -> None:
    rng = np.random.default_rng(0)
    scores, present = rng.normal(size=(6, 9)).astype(np.float32), rng.random((6, 9)) < 0.7
    labels = (rng.random((6, 9)) < 0.3) & present
    assert labels.any() and (labels.sum(axis=1) != 1).any()
    for of_lists in (np.ones(6, np.float32), np.array([1, 0.1, 1, 2, 0, 1], np.float32)):
        weights = torch.from_numpy(of_lists)[:, None]
        arguments = torch.from_numpy(labels).float(), torch.from_numpy(present), weights, objective
        found = ranker_training._loss(torch.from_numpy(scores), *arguments).item()
        assert found == pytest.approx(slow_loss(scores, labels, present, objective, of_lists), rel=1e-4)
        changed = torch.from_numpy(np.where(present, scores, 30))
        assert ranker_training._loss(changed, *arguments).item() == pytest.approx(found, rel=1e-5)


def test_all_positives_are_drawn_before_others_and_these_before_absent_ones() -> None:
    torch.manual_seed(0)
    labels, present = torch.zeros(4, 200, dtype=torch.bool), torch.ones(4, 200, dtype=torch.bool)
    labels[0, [0, 77, 199]] = True
    labels[1, : SAMPLED + 20] = True  # more than fit
    labels[2, 5], present[2, SAMPLED - 10 :] = True, False  # fewer are there than fit
    others: set[int] = set()
    for _ in range(30):
        drawn, drawn_labels = draw_candidates(labels, present)
        assert drawn.shape == drawn_labels.shape == (4, SAMPLED)
        assert (drawn_labels == labels.gather(1, drawn)).all()
        assert all(len(set(row)) == SAMPLED for row in drawn.tolist())
        assert drawn_labels.sum(1).tolist() == [3, SAMPLED, 1, 0]
        assert present.gather(1, drawn).sum(1).tolist() == [SAMPLED, SAMPLED, SAMPLED - 10, SAMPLED]
        others |= set(drawn[0].tolist())
    assert len(others) == 200  # each of the others has its turn
    few, _ = draw_candidates(labels[:, :10], present[:, :10])
    assert few.sort(dim=1).values.tolist() == [[*range(10)]] * 4


def block_of(acted_on: TrainingLists) -> ranker_selection.OfBlock:
    return ranker_selection.OfBlock(some_lists(), acted_on)


def test_lists_that_were_acted_on_are_fitted_to_where_valid_gains_by_them() -> None:
    """Of few lists found alone little is learned; more by the same rule help, and more by the opposite do not."""
    few = some_lists(count=24, seed=1)
    few.features[:, :, RULE] -= 4 * few.labels
    alike, opposite = some_lists(count=300, seed=2), some_lists(count=300, seed=3)
    alike.features[:, :, RULE] -= 4 * alike.labels
    opposite.features[:, :, RULE] -= 10 * opposite.labels
    for acted_on, helps in ((alike, True), (opposite, False)):
        lists = ranker_selection.OfBlock(few, acted_on)
        chosen, tried = ranker_selection.choose_objective(lists, VECTORS, 0)
        assert (chosen.acted_on > 0) == helps and chosen in tried
        assert [trial.acted_on for trial in tried] == [0, 0, *ranker_selection.ACTED_ON]
        assert all(trial.valid.lists == 12 for trial in tried)  # of the other half of the users, found alone
    none, tried = ranker_selection.choose_objective(block_of(few.select(few.users < 0)), VECTORS, 0)
    assert not none.acted_on and len(tried) == 2


def test_what_is_fitted_has_positives_and_lists_acted_on_by_their_weight() -> None:
    others = some_lists(count=7, seed=1)
    others.labels[0] = False
    others.candidates[1] = torch.where(others.labels[1], others.candidates[1], 0)  # nothing to prefer it to
    lists = block_of(others)
    assert len(lists.to_learn().to_fit(0.0).users) == len(lists.alone.users)
    both = lists.to_learn().to_fit(0.5)
    assert both.users[both.weights == 0.5].tolist() == [2, 3, 4, 5, 6] and (np.diff(both.users) >= 0).all()
    assert both.weights[both.weights != 0.5].tolist() == [1.0] * len(lists.alone.users)
    assert lists.of_half().acted_on.users.tolist() == [0, 2, 4, 6]


# --- lists -----------------------------------------------------------------------------------------------------------


def test_lists_are_selected_and_filled_whole() -> None:
    lists = some_lists(count=9)
    chosen = np.arange(9) % 3 == 0
    selected, filled = lists.select(chosen), lists.empty(9)
    for start in (0, 3, 6):
        filled.fill(start, lists.select((np.arange(9) >= start) & (np.arange(9) < start + 3)))
    for name, values in vars(lists).items():
        assert np.array_equal(getattr(selected, name), values[chosen]), name
        assert np.array_equal(getattr(filled, name), values) and getattr(filled, name).dtype == values.dtype, name
        assert not np.asarray(getattr(lists.empty(4), name)).any()


def test_lists_are_scored_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the net scores them, without dropout, however many at a time."""
    lists, net = some_lists(count=7), new_net(some_lists(), DIM, 0).train()
    together = score_lists(net, lists, VECTORS)
    assert together.shape == (7, CANDIDATES) and not net.training
    monkeypatch.setattr(ranker_training, "SCORED_AT_A_TIME", 3)
    np.testing.assert_allclose(score_lists(net, lists, VECTORS), together, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        columns = lists.features, VECTORS, lists.candidates, lists.recent, lists.liked
        np.testing.assert_allclose(net(*columns), together, rtol=1e-5, atol=1e-5)
