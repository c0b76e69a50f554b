"""Establishes that the tower computes what it says: what a state sees, that padding is nothing, and both losses."""

import numpy as np
import pytest
import torch
from torch import Tensor

from data_exchange_center.documents import TowerDocument, TowerShape
from offline.recall.sequence_tower import SequenceTower, catalogue_loss, sampled_catalogue_loss, tower_from

ITEMS, WINDOW = 12, 6
BOTH = pytest.mark.parametrize("content", [True, False], ids=["content", "lags alone"])


def a_tower(content: bool = True) -> SequenceTower:
    """All parameters random, those of the unknown item too: nothing may look at them."""
    torch.manual_seed(5)
    tower = SequenceTower(ITEMS, TowerShape(dim=8, heads=2, window=WINDOW, content=content), torch.zeros(ITEMS))
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return tower.eval()


def window(items: list[int], liked: list[int], length: int = WINDOW) -> tuple[Tensor, Tensor]:
    """[1, length] both, the newest last, behind empty places."""
    places = length - len(items)
    return torch.tensor([[0] * places + items]), torch.tensor([[0] * places + liked])


@torch.no_grad()
def vector(tower: SequenceTower, items: list[int], liked: list[int], length: int = WINDOW) -> np.ndarray:
    return tower(*window(items, liked, length))[0].numpy()


def differs(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() > 1e-3)


def layer(module: torch.nn.Module, inputs: np.ndarray) -> np.ndarray:
    return module(torch.from_numpy(inputs.astype(np.float32))).detach().numpy()


def slow_state(tower: SequenceTower, items: list[int], liked: list[int]) -> np.ndarray:
    """The state after the last impression, head by head and impression by impression."""
    attention, heads = tower.attention, tower.shape.heads
    table, kinds = tower.items.detach().numpy(), tower.kinds.detach().numpy()
    lags, of_kind = attention.lag_weights.detach().numpy(), attention.kind_weights.detach().numpy()
    inputs = np.stack([table[i] + kinds[k] if i else np.zeros(8) for i, k in zip(items, liked, strict=True)])
    normed = layer(tower.before, inputs)
    mixed = []
    for head in range(heads):
        part = slice(head * 8 // heads, (head + 1) * 8 // heads)
        logits, values = [], []
        for at, (item, like) in enumerate(zip(items, liked, strict=True)):
            lag = len(items) - 1 - at
            if not item:
                continue
            logit = lags[head, lag] + of_kind[like, head]
            if tower.shape.content:
                query, key = layer(attention.queries, normed[-1])[part], layer(attention.keys, normed[at])[part]
                logit += query @ key / np.sqrt(8 / heads)
            logits.append(logit)
            values.append(layer(attention.liked_values if like else attention.other_values, normed[at])[part])
        weights = np.exp(logits) / np.exp(logits).sum()
        mixed.append(sum((w * v for w, v in zip(weights, values, strict=True)), np.zeros(8 // heads)))
    state = inputs[-1] + layer(attention.output, np.concatenate(mixed))
    return layer(tower.after, state + layer(tower.feed_forward, state))


@BOTH
def test_a_state_equals_a_slow_one(content: bool) -> None:
    tower = a_tower(content)
    for items, liked in (([3], [1]), ([4, 0, 7, 7, 2], [0, 1, 1, 0, 1]), ([1, 2, 3, 4, 5, 0], [1, 0, 1] * 2)):
        found = vector(tower, items, liked, len(items))
        np.testing.assert_allclose(found[:-1], slow_state(tower, items, liked), rtol=1e-4, atol=1e-4)
        assert found[-1] == 1


@BOTH
def test_padding_changes_nothing(content: bool) -> None:
    tower, items, liked = a_tower(content), [3, 9, 5], [1, 0, 1]
    expected = vector(tower, items, liked, 3)
    for length in range(4, WINDOW + 1):
        np.testing.assert_allclose(vector(tower, items, liked, length), expected, atol=1e-5)
    assert differs(vector(tower, items[1:], liked[1:]), expected)


@BOTH
def test_a_window_does_not_depend_on_its_batch(content: bool) -> None:
    tower = a_tower(content)
    one, other = window([3, 9], [1, 0]), window([], [])
    with torch.no_grad():
        together = tower(*(torch.cat(parts) for parts in zip(one, other, strict=True)))
        alone = torch.cat([tower(*one), tower(*other)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@BOTH
def test_an_empty_window_has_a_finite_vector_and_finite_gradients(content: bool) -> None:
    tower = a_tower(content).train()
    found = tower(*window([], []))
    assert found.isfinite().all()
    found.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in tower.parameters())


@BOTH
def test_the_unknown_item_is_not_looked_at(content: bool) -> None:
    """Neither its vector nor whether it was liked, wherever it stands in the window."""
    tower = a_tower(content)
    for items in ([4, 0, 7], [4, 7, 0]):
        before = vector(tower, items, [1, 0, 0])
        assert (vector(tower, items, [1, 1, 0] if items[1] == 0 else [1, 0, 1]) == before).all()
        with torch.no_grad():
            tower.items[0] += 5
        assert (vector(tower, items, [1, 0, 0]) == before).all()
    assert not tower.item_vectors()[0, :-1].any()


@BOTH
def test_the_future_does_not_change_an_earlier_state(content: bool) -> None:
    tower = a_tower(content)
    items, liked, at = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[1, 0, 1, 1]]), torch.tensor([[1, 3]])
    changed, kinds = items.clone(), liked.clone()
    changed[0, 2:], kinds[0, 2:] = 9, 0
    with torch.no_grad():
        before, after = tower.states(items, liked, at)[0], tower.states(changed, kinds, at)[0]
    np.testing.assert_allclose(before[0], after[0], atol=1e-6)
    assert differs(before[1].numpy(), after[1].numpy())
    np.testing.assert_allclose(before[0], vector(tower, [3, 4], [1, 0])[:-1], atol=1e-5)


@BOTH
def test_order_and_liking_matter(content: bool) -> None:
    tower = a_tower(content)
    before = vector(tower, [3, 4, 5], [1, 0, 1])
    assert differs(before, vector(tower, [4, 3, 5], [0, 1, 1]))  # the last impression is the same
    assert differs(before, vector(tower, [3, 4, 5], [0, 0, 1]))
    assert differs(before, vector(tower, [3, 4, 5], [1, 0, 0]))


def test_inner_products_equal_scores_up_to_a_constant_of_the_user() -> None:
    tower = a_tower()
    windows = [window([3, 4, 5], [1, 0, 1]), window([7], [0]), window([], [])]
    items, liked = (torch.cat(parts) for parts in zip(*windows, strict=True))
    with torch.no_grad():
        states = tower.states(items, liked, torch.full((3, 1), WINDOW - 1)).squeeze(1)
        scores = (states @ tower.items.T + tower.bias).numpy()[:, 1:]
        products = tower(items, liked).numpy() @ tower.item_vectors().T
    rest = scores - products[:, 1:]
    np.testing.assert_allclose(rest, np.repeat(rest[:, :1], ITEMS - 1, axis=1), atol=1e-5)


def test_a_document_and_a_state_make_the_same_tower() -> None:
    tower = a_tower(content=False)
    document = TowerDocument(dataset="d", items=ITEMS, id_digest="i", shape=tower.shape)
    again = tower_from(document, tower.state_dict())
    assert (vector(again, [3, 4], [1, 0]) == vector(tower, [3, 4], [1, 0])).all()
    assert (again.item_vectors() == tower.item_vectors()).all()


# --- losses ----------------------------------------------------------------------------------------------------------

SEEN = [[1, 2], [], [5, 0, 11]]  # of each state; no target is among them


def seen_pairs() -> tuple[Tensor, Tensor]:
    pairs = torch.tensor([(row, item) for row, items in enumerate(SEEN) for item in items])
    return pairs[:, 0], pairs[:, 1]


def slow_loss(tower: SequenceTower, states: Tensor, targets: list[list[int]], weights: list[list[float]]) -> float:
    """The mean negative log of each target's share among the items that its user has not seen."""
    scores = (states.double() @ tower.items.double().T + tower.bias.double()).tolist()
    total = 0.0
    for row, (items, counts) in enumerate(zip(targets, weights, strict=True)):
        unseen = sum(np.exp(scores[row][item]) for item in range(1, ITEMS) if item not in SEEN[row])
        total -= sum(w * (scores[row][i] - np.log(unseen)) for i, w in zip(items, counts, strict=True))
    return total / sum(map(sum, weights))


TARGETS, WEIGHTS = [[3, 4, 9], [7, 2, 2], [8, 6, 1]], [[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def test_the_loss_equals_a_slow_one() -> None:
    tower, states = a_tower(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    found = catalogue_loss(states, torch.tensor(TARGETS), torch.tensor(WEIGHTS), tower, seen_pairs())
    assert found.item() == pytest.approx(slow_loss(tower, states, TARGETS, WEIGHTS), rel=1e-5)
    everything = catalogue_loss(
        states, torch.tensor(TARGETS), torch.tensor(WEIGHTS), tower, (torch.zeros(0).long(),) * 2
    )
    assert everything.item() > found.item()


def sampled_of_all(targets: list[list[int]], weights: list[list[float]]) -> tuple[float, float]:
    """The sampled loss where every item is drawn with certainty, and the full one."""
    tower, states = a_tower(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    arguments = states, torch.tensor(targets), torch.tensor(weights), tower, seen_pairs()
    certain = sampled_catalogue_loss(*arguments, torch.arange(1, ITEMS).flip(0), torch.zeros(ITEMS - 1))
    return certain.item(), catalogue_loss(*arguments).item()


def test_the_sampled_loss_of_all_items_is_the_full_one() -> None:
    sampled, full = sampled_of_all([[row[0]] for row in TARGETS], [[1.0], [0.5], [1.0]])
    assert sampled == pytest.approx(full, rel=1e-5)


def test_the_sampled_loss_of_all_items_is_the_full_one_with_several_targets() -> None:
    sampled, full = sampled_of_all(TARGETS, WEIGHTS)
    assert sampled == pytest.approx(full, rel=1e-5)


def test_the_sampled_loss_estimates_the_full_one() -> None:
    """Over many draws, by the probabilities with which the items are among those drawn, and not without them."""
    tower, states = a_tower(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1)) * 0.4
    targets, weights = torch.tensor(TARGETS)[:, :1], torch.tensor(WEIGHTS)[:, :1]
    generator = torch.Generator().manual_seed(2)
    chance = torch.linspace(0.3, 1, ITEMS - 1)
    corrected, naive = [], []
    with torch.no_grad():
        full = catalogue_loss(states, targets, weights, tower, seen_pairs()).item()
        for _ in range(400):
            places = (torch.rand(ITEMS - 1, generator=generator) < chance).nonzero().squeeze(1)
            arguments = states, targets, weights, tower, seen_pairs(), places + 1
            corrected.append(sampled_catalogue_loss(*arguments, chance[places].log()).item())
            naive.append(sampled_catalogue_loss(*arguments, torch.zeros(len(places))).item())
    assert abs(np.mean(corrected) - full) < 0.5 * abs(np.mean(naive) - full)
