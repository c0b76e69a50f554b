"""Establishes that the ranker computes what it says, pair by pair, and that a list depends on nothing but itself."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from data_exchange_center.documents import RankerDocument
from data_exchange_center.features import RECALL_FEATURES
from data_exchange_center.limits import RANKER_IMPRESSIONS
from offline.rank.deepfm import DeepFM
from offline.rank.item_knowledge import NEIGHBOURS, ItemKnowledge
from offline.rank.ranker import (
    FLOOR,
    FOLLOWED,
    HEADS,
    LARGEST_DEVIATION,
    NEAR,
    PRIOR,
    RANK_FEATURES,
    CandidateKnowledge,
    CandidateNet,
    Ranker,
    ranker_from,
)
from testkit.dataset import FEATURES

USERS, ITEMS, DIM, FM_DIM = 6, 30, 8, 4
USER, ITEM = FEATURES.sparse_columns.index("user_index"), FEATURES.sparse_columns.index("item_index")
SIZES = FEATURES.vocabulary_sizes({"userid": USERS, "itemid": ITEMS})
LISTS, CANDIDATES = 5, 7


def a_knowledge() -> ItemKnowledge:
    """Random tables; each item's first followers are among few items, so that several last impressions share them."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 40, ITEMS)
    neighbours = np.zeros((ITEMS, NEIGHBOURS), np.int32)
    neighbours[:, :12] = [rng.choice(np.arange(1, 20), 12, replace=False) for _ in range(ITEMS)]
    return ItemKnowledge(
        vectors=rng.normal(size=(ITEMS, DIM + 1)).astype(np.float32),
        fm_users=rng.normal(size=(USERS, FM_DIM)).astype(np.float32),
        fm_items=rng.normal(size=(ITEMS, FM_DIM)).astype(np.float32),
        counts=counts.astype(np.float32),
        positives=np.floor(counts * rng.random(ITEMS)).astype(np.float32),
        neighbours=neighbours,
        probabilities=(rng.random((ITEMS, NEIGHBOURS)) * (neighbours > 0) / 10).astype(np.float32),
    )


def a_ranker() -> Ranker:
    torch.manual_seed(1)
    ranker = Ranker.unfitted(DeepFM(FEATURES, SIZES, (8,), "dense"), CandidateKnowledge(a_knowledge()))
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    for net in (ranker.rank, ranker.like):
        net.mean.copy_(torch.randn(len(net.mean)))
        net.std.copy_(torch.rand(len(net.std)) + 0.5)
    return ranker.eval()


@dataclass(frozen=True)
class Inputs:
    """Of LISTS lists: the first without impressions, the second of the unknown user; some places hold no candidate."""

    sparse: Tensor
    dense: Tensor
    recall: Tensor
    recent: Tensor
    liked: Tensor

    def of(self, lists: list[int], candidates: list[int]) -> tuple[Tensor, ...]:
        """Those lists, and of each those candidates in that order."""
        per_candidate = (part[lists][:, candidates] for part in (self.sparse, self.dense, self.recall))
        return (*per_candidate, self.recent[lists], self.liked[lists])

    def all(self) -> tuple[Tensor, ...]:
        return tuple(vars(self).values())


def some_inputs() -> Inputs:
    generator = torch.Generator().manual_seed(2)
    shape = (LISTS, CANDIDATES)
    sparse = torch.stack([torch.randint(0, SIZES[f.name], shape, generator=generator) for f in FEATURES.sparse], 2)
    sparse[:, :, USER] = torch.tensor([3, 0, 1, 5, 2])[:, None]
    sparse[:, :, ITEM] = torch.stack([torch.randperm(19, generator=generator)[:CANDIDATES] + 1 for _ in range(LISTS)])
    sparse[3:, -1, ITEM] = 0
    recent = torch.randint(1, ITEMS, (LISTS, RANKER_IMPRESSIONS), generator=generator)
    recent[0], recent[2, :-2], recent[3, -2] = 0, 0, 0
    return Inputs(
        sparse,
        torch.randint(0, 11, (*shape, len(FEATURES.dense)), generator=generator).float(),
        torch.randn(*shape, len(RECALL_FEATURES), generator=generator),
        recent,
        torch.randint(0, 2, recent.shape, generator=generator) * (recent > 0),
    )


# --- what is known of candidates -------------------------------------------------------------------------------------


def slow_knowledge(knowledge: ItemKnowledge, user: int, item: int, recent: list[int], liked: list[int]) -> list[float]:
    """The columns of one pair, impression by impression."""
    directions = knowledge.vectors[:, :-1] / np.linalg.norm(knowledge.vectors[:, :-1], axis=1, keepdims=True)

    def cosine(impression: int) -> float:
        return float(directions[item] @ directions[impression]) if impression else 0.0

    def follows(impression: int) -> float:
        """How probably the candidate follows an impression."""
        row = knowledge.neighbours[impression].tolist()
        return float(knowledge.probabilities[impression][row.index(item)]) if impression and item in row else 0.0

    counts, positives = knowledge.counts, knowledge.positives
    average = positives.sum() / counts.sum()
    columns = [cosine(recent[-1]), sum(map(cosine, recent[-NEAR:])) / NEAR]
    columns.append(float(knowledge.fm_items[item] @ knowledge.fm_users[user]) if user else 0.0)
    columns += [np.log(1 + counts[item]), (positives[item] + PRIOR * average) / (counts[item] + PRIOR)]
    followed = [np.log(sum(map(follows, recent[-k:])) / k + FLOOR) for k in (1, 3, 10)]
    after_liked = sum(follows(i) for i, like in zip(recent[-10:], liked[-10:], strict=True) if like)
    lifts = [log - np.log(counts[item] / counts.sum() + FLOOR) for log in followed]
    return [*columns, *followed, np.log(after_liked / 10 + FLOOR), *lifts]


def known(inputs: Inputs) -> np.ndarray:
    arguments = inputs.sparse[:, 0, USER], inputs.sparse[:, :, ITEM], inputs.recent, inputs.liked
    return CandidateKnowledge(a_knowledge())(*arguments).numpy()


def test_knowledge_equals_a_slow_one() -> None:
    assert FOLLOWED == (1, 3, 10)
    inputs, knowledge = some_inputs(), a_knowledge()
    found = known(inputs)
    assert found.shape == (LISTS, CANDIDATES, CandidateKnowledge.WIDTH) and np.isfinite(found).all()
    for row in range(LISTS):
        for place in range(CANDIDATES):
            item = int(inputs.sparse[row, place, ITEM])
            if item:
                pair = (
                    int(inputs.sparse[row, place, USER]),
                    item,
                    inputs.recent[row].tolist(),
                    inputs.liked[row].tolist(),
                )
                expected = slow_knowledge(knowledge, *pair)
                np.testing.assert_allclose(found[row, place], expected, rtol=1e-4, atol=1e-4)
    seldom = np.log(FLOOR)
    hits = found[1:, :, 5:] > seldom + 1
    assert hits.any(axis=(0, 1)).all() and not hits.all()  # each column tells candidates apart


def test_who_is_unknown_or_has_done_nothing_has_no_score_from_it() -> None:
    """Even where the tables have numbers for index 0."""
    found = known(some_inputs())
    assert not found[1, :, 2].any() and found[[0, 2, 3, 4], :-1, 2].all()
    assert not found[0, :, :2].any()
    np.testing.assert_allclose(found[0][:, 5:9], np.log(FLOOR), rtol=1e-6)


# --- scores ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def scores(ranker: Ranker, inputs: tuple[Tensor, ...]) -> tuple[np.ndarray, np.ndarray]:
    logits, rank_scores = ranker(*inputs)
    assert logits.shape == rank_scores.shape == inputs[0].shape[:2]
    return logits.numpy(), rank_scores.numpy()


def test_a_list_depends_neither_on_other_lists_nor_on_its_order_nor_on_its_other_candidates() -> None:
    ranker, inputs = a_ranker(), some_inputs()
    together = scores(ranker, inputs.all())
    assert all(np.isfinite(part).all() for part in together)
    lists, order = [4, 0, 3], [5, 0, 6, 3, 1, 4, 2]
    for chosen, places in (([2], [*range(CANDIDATES)]), (lists, order), ([0, 1], [3]), ([1], [4, 4])):
        for found, expected in zip(scores(ranker, inputs.of(chosen, places)), together, strict=True):
            np.testing.assert_allclose(found, expected[chosen][:, places], rtol=1e-4, atol=1e-5)
    assert all(np.unique(part.round(4)).size > 20 for part in together)


def test_unfitted_the_logit_is_deepfms_own_and_the_rank_score_recalls_gap() -> None:
    fitted, inputs = a_ranker(), some_inputs()
    ranker = Ranker.unfitted(fitted.deepfm, fitted.knowledge)
    logits, rank_scores = scores(ranker, inputs.all())
    np.testing.assert_allclose(rank_scores, inputs.recall[:, :, RECALL_FEATURES.index("gap")])
    with torch.no_grad():
        expected = torch.stack(
            [ranker.deepfm(s, d).squeeze(1) for s, d in zip(inputs.sparse, inputs.dense, strict=True)]
        )
        features = ranker.features(*inputs.all())
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert features.shape == (LISTS, CANDIDATES, RANK_FEATURES)
    assert torch.equal(features[:, :, : len(RECALL_FEATURES)], inputs.recall)
    np.testing.assert_allclose(features[:, :, len(RECALL_FEATURES)], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(features[:, :, len(RECALL_FEATURES) + 1 :], known(inputs), rtol=1e-5, atol=1e-5)


def slow_attention(ranker: Ranker, net: CandidateNet, item: int, recent: list[int], liked: list[int]) -> np.ndarray:
    """What the impressions say about one candidate, head by head."""
    attention, vectors = net.attention, ranker.knowledge.vectors

    def projected(layer: torch.nn.Linear, index: int) -> np.ndarray:
        return layer(vectors[index]).detach().numpy().reshape(HEADS, -1)

    query, told = projected(attention.queries, item), []
    for head in range(HEADS):
        logits, values = [], []
        for at, (impression, like) in enumerate(zip(recent, liked, strict=True)):
            if impression:
                logit = query[head] @ projected(attention.keys, impression)[head] / np.sqrt(query.shape[1])
                logit += attention.lag_weights[head, at].item() + attention.kind_weights[like, head].item()
                logits.append(logit)
                layer = attention.liked_values if like else attention.other_values
                values.append(projected(layer, impression)[head])
        weights = np.exp(logits) / np.exp(logits).sum()
        mixed = sum((w * v for w, v in zip(weights, values, strict=True)), np.zeros(query.shape[1]))
        told.append(query[head] * mixed)
    return np.concatenate(told)


@torch.no_grad()
@pytest.mark.parametrize("output", ["like", "rank"])
def test_scores_equal_slow_ones(output: str) -> None:
    """The weighted first feature, and the MLP of standardised features and of what the last impressions say."""
    ranker, inputs = a_ranker(), some_inputs()
    net: CandidateNet = getattr(ranker, output)
    found = scores(ranker, inputs.all())[output == "rank"]
    features = ranker.features(*inputs.all())
    if output == "like":
        features = features[:, :, len(RECALL_FEATURES) :]
    for row in range(LISTS):
        for place in (0, 3, CANDIDATES - 1):
            item, own = int(inputs.sparse[row, place, ITEM]), features[row, place].numpy()
            told = slow_attention(ranker, net, item, inputs.recent[row].tolist(), inputs.liked[row].tolist())
            inner = np.clip((own - net.mean.numpy()) / net.std.numpy(), -LARGEST_DEVIATION, LARGEST_DEVIATION)
            correction = net.mlp(torch.from_numpy(np.r_[inner, told].astype(np.float32))).item()
            expected = net.first_weight.item() * own[0] + correction
            assert found[row, place] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_order_and_liking_of_the_last_impressions_matter_and_empty_places_do_not() -> None:
    ranker, inputs = a_ranker(), some_inputs()
    sparse, dense, recall, recent, liked = inputs.of([4], [*range(CANDIDATES)])
    _, before = scores(ranker, (sparse, dense, recall, recent, liked))
    for changed in ((recent.flip(1), liked.flip(1)), (recent, 1 - liked)):
        assert np.abs(scores(ranker, (sparse, dense, recall, *changed))[1] - before).max() > 1e-2
    empty = torch.zeros_like(recent)
    # A like in an empty place never occurs, and the attention does not see it: it weighs nothing.
    for kinds in (empty, torch.ones_like(empty)):
        _, without = scores(ranker, (sparse, dense, recall, empty, kinds))
        assert np.isfinite(without).all()
        np.testing.assert_allclose(without, scores(ranker, (sparse, dense, recall, empty, empty))[1], atol=1e-5)


def test_standardisation_is_a_layer_of_the_net() -> None:
    net, features = CandidateNet(RANK_FEATURES, DIM), torch.randn(50, RANK_FEATURES) * 3 + 1
    features[:, 2] = 7
    net.standardise_by(features)
    np.testing.assert_allclose(net.mean, features.mean(0), rtol=1e-5)
    np.testing.assert_allclose(net.std[3:], features.std(0, unbiased=False)[3:], rtol=1e-5)
    assert net.std[2] > 0 and set(net.state_dict()) >= {"mean", "std"}


def test_a_document_and_a_state_make_the_same_ranker() -> None:
    ranker, inputs = a_ranker(), some_inputs().all()
    document = RankerDocument(
        dataset="d",
        columns=FEATURES.columns,
        feature_hash="h",
        settings=ranker.deepfm.settings,
        vector_dim=DIM,
        fm_dim=FM_DIM,
    )
    again = ranker_from(document, ranker.state_dict())
    for one, other in zip(scores(ranker, inputs), scores(again, inputs), strict=True):
        assert (one == other).all()
