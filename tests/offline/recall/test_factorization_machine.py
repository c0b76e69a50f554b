"""Establishes that vectors reproduce scores, losses equal slow ones, and both objectives learn what they are for."""

import numpy as np
import pytest
import torch

from offline.fitting import Schedule
from offline.recall import sampled_softmax
from offline.recall.factorization_machine import FactorizationMachine, full_softmax_loss, sampled_softmax_loss
from offline.recall.fm_training import RATED_STEPS, fit_rated, fit_retrieval, pair_logits, rated_batch_size
from offline.recall.interactions import Interactions
from offline.recall.s2_vector_recall import popularity_vectors
from offline.retrieval_metrics import recall_at


def a_model(users: int = 7, items: int = 9) -> FactorizationMachine:
    torch.manual_seed(3)
    model = FactorizationMachine(users, items, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
        model.users.weight[0] = model.items.weight[0] = 0
    return model


def test_inner_products_equal_scores_up_to_a_constant_of_the_user() -> None:
    model = a_model()
    users, items = (grid.ravel() for grid in np.meshgrid(np.arange(1, 7), np.arange(1, 9), indexing="ij"))
    scores = pair_logits(model, Interactions(users, items, np.zeros(len(users), np.uint8), 7, 9)).reshape(6, 8)
    user_vectors, item_vectors = model.vectors()
    rest = scores - (user_vectors @ item_vectors.T)[1:, 1:]
    np.testing.assert_allclose(rest, np.repeat(rest[:, :1], 8, axis=1), atol=1e-5)


def test_scores_equal_a_slow_sum() -> None:
    model = a_model()
    u, i = model.users.weight[2].tolist(), model.items.weight[5].tolist()
    expected = model.bias.item() + u[-1] + i[-1] + sum(a * b for a, b in zip(u[:-1], i[:-1], strict=True))
    score, norm = model(torch.tensor([2]), torch.tensor([5]))
    assert score.item() == pytest.approx(expected, rel=1e-5)
    assert norm.item() == pytest.approx(sum(x * x for x in u + i), rel=1e-5)


@pytest.mark.parametrize("negatives", [100, 3000], ids=["some drawn", "nearly all drawn"])
def test_the_sampled_loss_estimates_the_full_one(negatives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the logQ correction the mean over many draws approaches the full softmax; without it, it does not."""
    monkeypatch.setattr(sampled_softmax, "NEGATIVES", negatives)
    torch.manual_seed(0)
    users, items = torch.randn(50, 8), torch.randn(300, 8) * 0.5
    hot = (torch.rand(50, 300) < 0.02).float()  # some users like nothing, some several items
    rows, positives = hot.nonzero(as_tuple=True)
    probability = torch.softmax(torch.randn(300), 0)
    users[:, -1], items[:, -1] = 1, probability.log()  # popular items are drawn more often, and score higher
    corrected, naive = [], []
    for _ in range(60):
        drawn, log_expected = sampled_softmax.draw_items(probability)
        even = torch.full_like(log_expected, len(drawn) / 300).log()
        for results, log_q in ((corrected, log_expected), (naive, even)):
            results.append(sampled_softmax_loss(users, items, rows, positives, drawn, log_q).item())
    full = full_softmax_loss(users, items, hot).item()
    assert np.mean(corrected) == pytest.approx(full, abs=0.02)
    if negatives < 300:  # where nearly all are drawn, nearly nothing is to be corrected
        assert abs(np.mean(naive) - full) > 0.1


def test_the_gradient_of_the_sampled_loss_is_the_full_ones_where_all_items_are_drawn() -> None:
    torch.manual_seed(0)
    users, items = (torch.randn(count, 8, dtype=torch.float64, requires_grad=True) for count in (20, 60))
    hot = (torch.rand(20, 60) < 0.1).double()
    drawn, certain = torch.arange(60), torch.zeros(60, dtype=torch.float64)
    sampled = sampled_softmax_loss(users, items, *hot.nonzero(as_tuple=True), drawn, certain)
    full = full_softmax_loss(users, items, hot)
    torch.testing.assert_close(sampled, full)
    for table in (users, items):
        gradients = [torch.autograd.grad(loss, table, retain_graph=True)[0] for loss in (sampled, full)]
        torch.testing.assert_close(*gradients)


def test_a_positive_that_was_left_out_of_the_sum_has_a_finite_gradient() -> None:
    scores, positive = torch.full((1, 3), -1e4, requires_grad=True), torch.tensor([5.0], requires_grad=True)
    losses = sampled_softmax.sampled_losses(scores, torch.tensor([0]), positive, torch.zeros(1))
    (losses * 0).sum().backward()
    assert positive.grad is not None and scores.grad is not None
    assert positive.grad.isfinite().all() and scores.grad.isfinite().all()


@pytest.mark.parametrize("rows", [5_000, 754_277, 7_542_770, 94_000_001])
def test_an_epoch_of_many_rated_rows_takes_no_more_steps(rows: int) -> None:
    assert -(-rows // rated_batch_size(rows)) <= RATED_STEPS


def test_the_sum_over_the_drawn_is_logsumexp_and_so_is_its_gradient() -> None:
    torch.manual_seed(0)
    scores = torch.cat([torch.randn(5, 40), torch.full((1, 40), -1e4), torch.arange(40.0)[None] * 50]).double()
    scores = scores.requires_grad_()
    found, expected = sampled_softmax.LogSumExp.apply(scores), torch.logsumexp(scores, 1)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(7).double()
    gradients = [torch.autograd.grad((value * weights).sum(), scores)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("full_softmax_items", [20_000, 0])
def test_retrieval_recalls_more_than_popularity(full_softmax_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two camps, each with its own items: popularity cannot tell them apart, both softmax losses must."""
    monkeypatch.setattr("offline.recall.sampled_softmax.FULL_SOFTMAX_ITEMS", full_softmax_items)
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(1, 201), 20), []
    for user in range(1, 201):
        items.append(rng.choice(np.arange(1, 101) + 100 * (user % 2), 20, replace=False))
    pairs = Interactions(users, np.concatenate(items), np.ones(len(users), np.uint8), 201, 201)
    last = np.arange(len(users)) % 20 >= 16
    train, valid = pairs.select(~last), pairs.select(last)
    model, best = fit_retrieval(
        train, 0.001, Schedule(20, lambda m: recall_at(*m.vectors(), train, valid, (50,))[50]), 0
    )
    popular = recall_at(*popularity_vectors(train), train, valid, (50,))[50]
    assert best.value > 1.5 * popular and best.value > 0.5


@pytest.mark.parametrize("fit", [fit_rated, fit_retrieval])
def test_ids_without_a_row_to_fit_are_unknown(fit) -> None:  # type: ignore[no-untyped-def]
    """Their factors are zeros: an id of the vocabulary that only later rows hold must not score by chance."""
    pairs = Interactions(np.array([1, 1, 2]), np.array([1, 2, 2]), np.array([1, 0, 1], np.uint8), 4, 4)
    model, _ = fit(pairs, 0.01, Schedule(2), 0)
    assert not model.users.weight[3].any() and model.users.weight[1].any()
    if fit is fit_rated:  # in a softmax over the catalogue every item takes part
        assert not model.items.weight[3].any()
    else:
        assert model.items.weight[3, -1] < model.items.weight[1:3, -1].min()
