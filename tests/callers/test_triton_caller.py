"""Establishes that the real Triton's scores are PyTorch's, in any number, and that one list has one model version."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tritonclient.utils import InferenceServerException

from data_exchange_center import catalogue
from data_exchange_center.features import COLUMNS
from data_exchange_center.limits import TRITON_MAX_BATCH
from data_exchange_center.settings import Settings
from offline_to_online.rank.exported_model import example_inputs, state_digest, trained_model
from online.callers.triton_caller import TritonCaller
from online.callers.types import ServedModel, ServiceUnavailable
from tests.conftest import Stack

SPARSE, DENSE = np.zeros((2 * TRITON_MAX_BATCH, 23), np.int64), np.zeros((2 * TRITON_MAX_BATCH, 36), np.float32)


@pytest.mark.parametrize("rows", [1, TRITON_MAX_BATCH, 2 * TRITON_MAX_BATCH + 1])
def test_scores_are_pytorchs_in_any_number(rows: int, served: Stack) -> None:
    model = trained_model()
    sparse, dense = example_inputs(model, rows)
    logits, described = TritonCaller(Settings(), 10).score(sparse.numpy(), dense.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(sparse, dense).squeeze(1).numpy(), atol=1e-5)
    assert described.columns == COLUMNS and described.state_digest == state_digest(model)
    assert described.feature_hash == catalogue.DEEPFM_META.load().feature_hash
    assert described.blend_weight == catalogue.BLEND.load().weight and int(described.version) >= 1


def test_a_missing_version_and_a_missing_server_are_unavailable(served: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = TritonCaller(Settings(), 10)
    caller.ping()
    with pytest.raises(ServiceUnavailable, match="triton"):
        caller.model("999")
    with pytest.raises(ServiceUnavailable, match="triton"):
        caller.score(SPARSE[:, :5], DENSE)  # of another width than the model's
    monkeypatch.setenv("TRITON_GRPC_PORT", "1")
    dead = TritonCaller(Settings(), 1)
    for call in (dead.ping, dead.model, dead.load, lambda: dead.score(SPARSE, DENSE)):
        with pytest.raises(ServiceUnavailable, match="triton"):
            call()


# --- replaced versions, without a server -----------------------------------------------------------------------------


class Client:
    """Triton whose newest version is replaced by the next one after the first batch of a list."""

    def __init__(self, fill: float = 0.0) -> None:
        self.version, self.requested, self.fill = 1, list[str](), fill
        self.replaced = False

    def infer(self, name: str, inputs: list[object], model_version: str, client_timeout: float) -> object:
        self.requested.append(model_version)
        if model_version and int(model_version) < self.version:
            raise InferenceServerException(f"version {model_version} is not found", "StatusCode.NOT_FOUND")
        version = str(self.version)
        if not self.replaced:
            self.version, self.replaced = self.version + 1, True
        return SimpleNamespace(
            as_numpy=lambda _: np.full((TRITON_MAX_BATCH, 1), self.fill, np.float32),
            get_response=lambda: SimpleNamespace(model_version=version),
        )

    def get_model_config(self, name: str, version: str, client_timeout: float) -> object:
        value = SimpleNamespace(string_value="0.5")
        return SimpleNamespace(config=SimpleNamespace(parameters={"blend_weight": value}))


def with_client(client: object) -> TritonCaller:
    caller = TritonCaller(Settings(), 1)
    caller._client = client
    return caller


def test_a_version_replaced_between_two_batches_does_not_mix() -> None:
    client = Client()
    logits, model = with_client(client).score(SPARSE, DENSE)
    assert client.requested == ["", "1", "", "2"]  # the second batch of version 1 failed; then both by version 2
    assert len(logits) == len(SPARSE) and model == ServedModel("2", (), "", "", 0.5)


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(fill: float) -> None:
    with pytest.raises(ServiceUnavailable, match="512 finite logits"):
        with_client(Client(fill)).score(SPARSE, DENSE)


def test_any_other_fault_is_not_tried_twice() -> None:
    client = Client()

    def infer(*_: object, **__: object) -> object:
        client.requested.append("")
        raise InferenceServerException("out of memory", "StatusCode.INTERNAL")

    client.infer = infer  # type: ignore[method-assign]
    with pytest.raises(ServiceUnavailable, match="out of memory"):
        with_client(client).score(SPARSE, DENSE)
    assert client.requested == [""]
