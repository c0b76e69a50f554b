"""Establishes that the real Triton's scores are PyTorch's, in any number, and that one list has one model version."""

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tritonclient.utils import InferenceServerException

from data_exchange_center import catalogue
from data_exchange_center.assembler import RankingInputs
from data_exchange_center.limits import RANKER_IMPRESSIONS, TRITON_MAX_BATCH
from data_exchange_center.settings import Settings
from data_exchange_center.triton_models import RANKER, TOWER
from offline_to_online.exported_model import trained_ranker, trained_tower
from online.callers.triton_caller import TritonCaller
from online.callers.types import ServedModel, ServiceUnavailable, StoreFault
from online.serving_data import ServingData
from testkit.dataset import FEATURES
from tests.conftest import ROOT, Stack
from tests.online.stand_ins import DATA

LISTS = 2 * TRITON_MAX_BATCH


def inputs_of(lists: int, candidates: int = 3) -> RankingInputs:
    return RankingInputs(
        np.zeros((lists, candidates, 23), np.int64),
        np.zeros((lists, candidates, 36), np.float32),
        np.zeros((lists, candidates, 5), np.float32),
        np.zeros((lists, RANKER_IMPRESSIONS), np.int64),
        np.zeros((lists, RANKER_IMPRESSIONS), np.int64),
    )


@pytest.mark.parametrize(("lists", "candidates"), [(1, 1), (1, 200), (TRITON_MAX_BATCH, 7), (LISTS + 1, 2)])
def test_scores_are_pytorchs_in_any_number(lists: int, candidates: int, served: Stack) -> None:
    model = trained_ranker()
    example = [np.resize(part.numpy(), (lists, *part.shape[1:])) for part in model.example]
    inputs = RankingInputs(*(part[:, :candidates] if part.ndim == 3 else part for part in example))
    inputs = RankingInputs(*(np.resize(p, (lists, candidates, p.shape[2])) if p.ndim == 3 else p for p in inputs))
    scores, described = TritonCaller(Settings(), 10).score(inputs)
    for found, expected in zip(scores, model.outputs(tuple(map(torch.from_numpy, inputs))), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert described.columns == FEATURES.columns
    assert described.feature_hash == catalogue.RANKER_META.load().feature_hash and int(described.version) >= 1


def test_vectors_are_pytorchs(served: Stack) -> None:
    model = trained_tower()
    items, liked = (part.numpy() for part in model.example)
    vectors, described = TritonCaller(Settings(), 10).user_vectors(items, liked)
    np.testing.assert_allclose(vectors, model.outputs(model.example)[0], atol=1e-5)
    assert described.state_digest == model.digest and described.feature_hash == trained_ranker().feature_hash


def test_a_missing_version_and_a_missing_server_are_unavailable(served: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = TritonCaller(Settings(), 10)
    caller.ping(ServingData.load().expected)
    with pytest.raises(StoreFault, match="is of the load .*, and the artefacts have another"):
        caller.ping(replace(ServingData.load().expected, load_digest="another"))
    with pytest.raises(ServiceUnavailable, match="version 999 of ml_rec is not loaded"):
        caller.ping(replace(ServingData.load().expected, ranking_version="999"))
    with pytest.raises(ServiceUnavailable, match="triton"):
        caller.served(RANKER, "999")
    with pytest.raises(ServiceUnavailable, match="triton"):
        caller.score(inputs_of(1), "999")
    with pytest.raises(ServiceUnavailable, match="triton"):
        caller.score(inputs_of(1)._replace(sparse=np.zeros((1, 3, 5), np.int64)))  # of another width than the model's
    monkeypatch.setenv("TRITON_GRPC_PORT", "1")
    dead = TritonCaller(Settings(), 1)
    for call in (
        lambda: dead.ping(DATA.expected),
        lambda: dead.served(RANKER),
        lambda: dead.load(TOWER),
        lambda: dead.score(inputs_of(1)),
        lambda: dead.user_vectors(np.zeros((1, 100), np.int64), np.zeros((1, 100), np.int64)),
    ):
        with pytest.raises(ServiceUnavailable, match="triton"):
            call()


def test_a_model_of_other_features_is_no_outage(served: Stack) -> None:
    """While other data are loaded, the model may still be that of the former ones: Triton works."""
    inputs = inputs_of(1)
    with pytest.raises(StoreFault, match="ml_rec takes other inputs .*run `make load`"):
        TritonCaller(Settings(), 5).score(inputs._replace(sparse=inputs.sparse[:, :, :-1]))


PING = """
from data_exchange_center.settings import Settings
from online.callers.triton_caller import TritonCaller
from online.serving_data import ServingData
TritonCaller(Settings(), 5).ping(ServingData.load().expected)
"""


def test_no_proxy_is_asked_for_the_own_server(served: Stack) -> None:
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"), "http://127.0.0.1:9")
    env = {**{name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}, **served.env, **proxies}
    subprocess.run([sys.executable, "-c", PING], cwd=ROOT, env=env, check=True, timeout=60)
    client = [sys.executable, "-m", "online.main.s2_client", "--size", "3"]
    assert "recalled by" in subprocess.run(client, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout


# --- replaced versions, without a server -----------------------------------------------------------------------------


class Client:
    """Triton whose newest version is replaced by the next one after the first batch of a list."""

    def __init__(self, fill: float = 0.0) -> None:
        self.version, self.requested, self.fill = 1, list[str](), fill
        self.replaced = False

    def infer(
        self, name: str, inputs: list[object], model_version: str, client_timeout: float, headers: object
    ) -> object:
        self.requested.append(model_version)
        if model_version and int(model_version) < self.version:
            raise InferenceServerException(f"version {model_version} is not found", "StatusCode.NOT_FOUND")
        version = str(self.version)
        if not self.replaced:
            self.version, self.replaced = self.version + 1, True
        return SimpleNamespace(
            as_numpy=lambda _: np.full((TRITON_MAX_BATCH, 3), self.fill, np.float32),
            get_response=lambda: SimpleNamespace(model_version=version),
        )

    def get_model_config(self, name: str, version: str, client_timeout: float) -> object:
        value = SimpleNamespace(string_value="h")
        return SimpleNamespace(config=SimpleNamespace(parameters={"feature_hash": value}))


def with_client(client: object) -> TritonCaller:
    caller = TritonCaller(Settings(), 1)
    caller._clients = [client]
    return caller


def test_a_version_replaced_between_two_batches_does_not_mix() -> None:
    client = Client()
    scores, model = with_client(client).score(inputs_of(LISTS))
    assert client.requested == ["", "1", "", "2"]  # the second batch of version 1 failed; then both by version 2
    assert scores.logits.shape == (LISTS, 3) and model == ServedModel("2", (), "h", "")


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(fill: float) -> None:
    with pytest.raises(ServiceUnavailable, match="did not return finite numbers"):
        with_client(Client(fill)).score(inputs_of(LISTS))


def test_another_number_of_scores_is_refused() -> None:
    with pytest.raises(ServiceUnavailable, match=r"did not return \(512, 4\) scores"):
        with_client(Client()).score(inputs_of(LISTS, 4))


def test_any_other_fault_is_not_tried_twice() -> None:
    client = Client()

    def infer(*_: object, **__: object) -> object:
        client.requested.append("")
        raise InferenceServerException("out of memory", "StatusCode.INTERNAL")

    client.infer = infer  # type: ignore[method-assign]
    with pytest.raises(ServiceUnavailable, match="out of memory"):
        with_client(client).score(inputs_of(LISTS))
    assert client.requested == [""]
