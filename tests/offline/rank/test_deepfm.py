"""Establishes that DeepFM computes what its formula says, that unknown is neutral, and that raw counts suffice."""

import numpy as np
import pytest
import torch

from data_exchange_center.documents import DeepInputs
from offline.rank.deepfm import DeepFM, deepfm_from
from testkit.dataset import FEATURES

SIZES = FEATURES.vocabulary_sizes({"userid": 40, "itemid": 30})


def a_model(deep_inputs: DeepInputs = "dense+side") -> DeepFM:
    torch.manual_seed(1)
    model = DeepFM(FEATURES, SIZES, (8, 4), deep_inputs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
        model.mean.copy_(torch.rand(len(FEATURES.dense)) * 3)
        model.std.copy_(torch.rand(len(FEATURES.dense)) + 0.5)
    return model.eval()


def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    sparse = torch.stack([torch.randint(0, SIZES[f.name], (count,), generator=generator) for f in FEATURES.sparse], 1)
    return sparse, torch.randint(0, 11, (count, len(FEATURES.dense)), generator=generator).float()


def slow_score(model: DeepFM, sparse: list[int], dense: np.ndarray) -> float:
    """Row by row: linear terms, all pairs of equal width, MLP."""
    embeddings: dict[int, list[np.ndarray]] = {16: [], 2: []}
    score = model.bias.item()
    offsets = {16: 0, 2: 0}
    flags = 0
    for feature, index in zip(FEATURES.sparse, sparse, strict=True):
        group = model.groups[str(feature.embedding_dim)]
        if feature.vocabulary == "flag":
            row = group.flag_rows[flags].detach().numpy() * index
            flags += 1
        else:
            row = group.table[offsets[feature.embedding_dim] + index].detach().numpy() * (index > 0)
            offsets[feature.embedding_dim] += SIZES[feature.name]
        score += row[-1]
        embeddings[feature.embedding_dim].append(row[:-1])
    for group in embeddings.values():
        score += sum(float(a @ b) for at, a in enumerate(group) for b in group[at + 1 :])
    if model.settings.deep_inputs == "none":
        return score
    hidden = (dense - model.mean.numpy()) / model.std.numpy()
    if model.deep_groups:
        hidden = np.concatenate([hidden, *(np.concatenate(embeddings[int(dim)]) for dim in model.deep_groups)])
    layers = [layer for layer in model.mlp if isinstance(layer, torch.nn.Linear)]
    for layer in layers:
        hidden = layer.weight.detach().numpy() @ hidden + layer.bias.detach().numpy()
        hidden = np.maximum(hidden, 0) if layer is not layers[-1] else hidden
    return score + float(hidden[0])


@pytest.mark.parametrize("deep_inputs", ["none", "dense", "dense+side", "dense+all"])
def test_scores_equal_a_slow_sum(deep_inputs: DeepInputs) -> None:
    model = a_model(deep_inputs)
    sparse, dense = rows(20)
    # The slow sum concatenates the embeddings by width in the model's own order of groups.
    expected = [slow_score(model, s, d.numpy()) for s, d in zip(sparse.tolist(), dense, strict=True)]
    np.testing.assert_allclose(model(sparse, dense).detach().squeeze(1), expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_category_adds_nothing() -> None:
    model = a_model("dense")
    sparse, dense = rows(1)
    unknown = torch.zeros_like(sparse)
    hidden = model.mlp((dense - model.mean) / model.std).item()
    assert model(unknown, dense).item() == pytest.approx(model.bias.item() + hidden, rel=1e-5)


def test_standardisation_is_a_layer() -> None:
    """A constant column becomes zero instead of NaN, and the statistics travel with the state."""
    model = a_model("dense")
    dense = torch.stack([torch.full((36,), 5.0), torch.arange(36).float()])
    dense[:, 0] = 5
    model.standardise_by(dense.mean(0), dense.std(0, unbiased=False))
    np.testing.assert_allclose(model.mean, dense.numpy().mean(0))
    assert model.std[0] == 1
    again = deepfm_from(model.settings, model.state_dict())
    sparse, counts = rows(5)
    assert torch.equal(again(sparse, counts), model(sparse, counts))


def test_calibration_is_a_layer_that_keeps_the_order() -> None:
    model = a_model("dense")
    sparse, dense = rows(20)
    before = model(sparse, dense)
    model.calibrate(1.5, -0.25)
    np.testing.assert_allclose(model(sparse, dense).detach(), before.detach() * 1.5 - 0.25, rtol=1e-5)
    again = deepfm_from(model.settings, model.state_dict())
    assert torch.equal(again(sparse, dense), model(sparse, dense))


def test_ids_without_a_row_to_fit_are_unknown() -> None:
    model = a_model("dense")
    sparse, dense = rows(5)
    model.forget_absent(lambda: [sparse])
    sparse[:, 0] = next(index for index in range(1, 40) if index not in sparse[:, 0])
    unknown = sparse.clone()
    unknown[:, 0] = 0
    assert torch.equal(model(sparse, dense), model(unknown, dense))
