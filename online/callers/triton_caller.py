"""Triton over gRPC: one reused connection, and every call by one version of the model."""

import copy
import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.assembler import RankingInputs
from data_exchange_center.limits import TRITON_MAX_BATCH
from data_exchange_center.settings import Settings
from data_exchange_center.triton_models import MODELS, RANKER, TOWER, TritonModel
from online.callers.types import Expected, RankingScores, ServedModel, ServiceUnavailable, StoreFault
from online.tracing import Headers

# A restarted server is used again within a second; by default gRPC waits for up to two minutes.
# No proxy of the environment has a say in how the stack's own server is reached.
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
]
UNAVAILABLE, DEADLINE_EXCEEDED = "StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"
AWAY_SECONDS = 1.0  # for which a node that did not respond is asked after the others
FAULTS = (InferenceServerException, AttributeError, ValueError, TypeError)

Arrays = Sequence[npt.NDArray[Any]]


class TritonCaller:
    """Uses the two models that the loaders of offline_to_online/ wrote."""

    def __init__(self, settings: Settings, timeout: float, headers: Headers = dict) -> None:
        """Opens the channels lazily.

        Args:
            settings: where Triton is.
            timeout: in seconds, for each call.
            headers: what each inference carries as gRPC's metadata.
        """
        self._clients = [
            grpc.InferenceServerClient(str(address), channel_args=CHANNEL) for address in settings.triton_addresses
        ]
        self._turn = itertools.cycle(range(len(self._clients)))
        self._away: dict[int, float] = {}  # when a node did not respond, by its place
        self._timeout, self._headers = timeout, headers
        self._served: dict[tuple[str, str], ServedModel] = {}  # by the model's name and version

    @property
    def each(self) -> "list[TritonCaller]":
        """A caller of each node alone."""
        callers = []
        for client in self._clients:
            caller = copy.copy(self)
            caller._clients, caller._turn, caller._away, caller._served = [client], itertools.cycle([0]), {}, {}
            callers.append(caller)
        return callers

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Calls the node whose turn it is, and where it is away, the next: a call changes nothing and may be repeated.

        Raises:
            InferenceServerException: as the method does; of the last node, where all are away.
        """
        start, now = next(self._turn), time.monotonic()
        places = [(start + step) % len(self._clients) for step in range(len(self._clients))]
        places.sort(key=lambda place: now - self._away.get(place, -AWAY_SECONDS) < AWAY_SECONDS)  # else in their order
        for place in places:
            try:
                return getattr(self._clients[place], method)(*arguments, client_timeout=self._timeout, **options)
            except InferenceServerException as error:
                if error.status() in (UNAVAILABLE, DEADLINE_EXCEEDED):
                    self._away[place] = now
                if error.status() != UNAVAILABLE or place == places[-1]:
                    raise
        raise AssertionError("there is a node")

    def ping(self, expected: Expected) -> None:
        """Raises ServiceUnavailable unless both models are loaded, of the load and in the version that is expected."""
        versions = {TOWER: "", RANKER: expected.ranking_version}
        for model in MODELS:
            if not self.is_ready(model, versions[model]):
                which = f"version {versions[model]} of " if versions[model] else ""
                raise ServiceUnavailable("triton", f"{which}{model.name} is not loaded")
        for model in MODELS:
            expected.check_model(self.served(model, versions[model]))

    def is_ready(self, model: TritonModel, version: str = "") -> bool:
        """Whether a version, or any, is loaded.

        Raises:
            ServiceUnavailable: Triton does not respond.
        """
        try:
            return bool(self._call("is_model_ready", model.name, version))
        except FAULTS as error:
            raise ServiceUnavailable("triton", error) from error

    def served(self, model: TritonModel, version: str = "") -> ServedModel:
        """What the given version, or the newest, declares about itself.

        Raises:
            ServiceUnavailable: Triton does not respond, or has no such version.
        """
        try:
            config = self._call("get_model_config", model.name, version).config
            declared = {name: value.string_value for name, value in config.parameters.items()}
            return ServedModel(
                version=version,
                columns=tuple(filter(None, declared.get("columns", "").split(","))),
                feature_hash=declared.get("feature_hash", ""),
                state_digest=declared.get("state_digest", ""),
                load_digest=declared.get("load_digest", ""),
            )
        except FAULTS as error:
            raise ServiceUnavailable("triton", error) from error

    def load(self, model: TritonModel) -> None:
        """Makes each Triton load the version folders that are new; of one that is removed it forgets the version.

        What the model's configuration keeps beside them goes on: versions that are there are served meanwhile.

        Raises:
            ServiceUnavailable: a Triton does not respond, or cannot load the model.
        """
        try:
            for client in self._clients:
                client.load_model(model.name, client_timeout=self._timeout)
        except InferenceServerException as error:
            raise ServiceUnavailable("triton", error) from error

    def score(self, inputs: RankingInputs, version: str = "") -> tuple[RankingScores, ServedModel]:
        """Scores the candidates of b requests, and says which model did.

        Args:
            inputs: as data_exchange_center/assembler.py makes them.
            version: which one scores; the newest unless given.

        Raises:
            ServiceUnavailable: Triton does not respond in time, lacks the version, or responds with something else than
                a finite logit and a finite rank score for each candidate.
        """
        (logits, rank_scores), model = self.infer(RANKER, inputs, version)
        shape = inputs.sparse.shape[:2]
        if logits.shape != shape or rank_scores.shape != shape:
            raise ServiceUnavailable("triton", f"version {model.version} did not return {shape} scores")
        return RankingScores(logits, rank_scores), model

    def user_vectors(self, items: Int64Array, liked: Int64Array) -> tuple[Float32Array, ServedModel]:
        """[b, dim + 1] the vectors after b users' last impressions, and the model that made them.

        Args:
            items, liked: [b, TOWER_IMPRESSIONS] as data_exchange_center/user_state.py makes them.

        Raises:
            ServiceUnavailable: Triton does not respond in time, or responds with something else than finite vectors.
        """
        (vectors,), model = self.infer(TOWER, (items, liked))
        if vectors.ndim != 2 or len(vectors) != len(items):
            raise ServiceUnavailable("triton", f"version {model.version} did not return {len(items)} vectors")
        return vectors, model

    def infer(self, model: TritonModel, arrays: Arrays, version: str = "") -> tuple[list[Float32Array], ServedModel]:
        """The model's outputs, all by one version, and which model that is.

        Args:
            model: which of the two.
            arrays: its inputs in the declared order; more rows than TRITON_MAX_BATCH go in several calls.
            version: which one; the newest unless given.

        Raises:
            ServiceUnavailable: Triton does not respond in time, or responds with numbers that are not finite.
            StoreFault: it does not have the version.
        """
        try:
            return self._infer_once(model, arrays, version)
        except ServiceUnavailable as error:
            # A version may be replaced between two batches, or before its configuration is read; one retry is enough.
            if not _is_about_a_version(error):
                raise
        try:
            return self._infer_once(model, arrays, version)
        except ServiceUnavailable as error:
            if version and _is_about_a_version(error):  # an arm's, say: no reason to leave Triton alone
                raise StoreFault("triton", f"it has no version {version} of {model.name}") from error
            raise

    def _infer_once(self, model: TritonModel, arrays: Arrays, version: str) -> tuple[list[Float32Array], ServedModel]:
        parts = []
        for start in range(0, max(len(arrays[0]), 1), TRITON_MAX_BATCH):
            batch = [array[start : start + TRITON_MAX_BATCH] for array in arrays]
            inputs = [
                grpc.InferInput(tensor.name, list(values.shape), tensor.datatype)
                for tensor, values in zip(model.inputs, batch, strict=True)
            ]
            for tensor, values in zip(inputs, batch, strict=True):
                tensor.set_data_from_numpy(np.ascontiguousarray(values))
            try:
                response = self._call(
                    "infer", model.name, inputs, model_version=version, headers=self._headers() or None
                )
                parts.append([response.as_numpy(tensor.name) for tensor in model.outputs])
                version = response.get_response().model_version
                outputs = [np.concatenate(batches) for batches in zip(*parts, strict=True)]
            except FAULTS as error:
                if _is_about_the_inputs(error):
                    raise StoreFault("triton", f"{model.name} takes other inputs ({error}): run `make load`") from error
                raise ServiceUnavailable("triton", error) from error
        if not all(np.isfinite(output).all() for output in outputs):
            raise ServiceUnavailable("triton", f"version {version} of {model.name} did not return finite numbers")
        served = self._served.get((model.name, version))
        if served is None:
            served = self._served[model.name, version] = self.served(model, version)
        return outputs, served


def _is_about_the_inputs(error: Exception) -> bool:
    """Whether Triton works and the model is one of other features: it refuses their number."""
    return isinstance(error, InferenceServerException) and error.status() == "StatusCode.INVALID_ARGUMENT"


def _is_about_a_version(error: ServiceUnavailable) -> bool:
    """Whether Triton lacks the requested version: it is not found, or no longer ready."""
    cause = error.__cause__
    return (
        isinstance(cause, InferenceServerException)
        and cause.status()
        in (
            "StatusCode.NOT_FOUND",
            UNAVAILABLE,
            "StatusCode.INVALID_ARGUMENT",
        )
        and "version" in str(cause.message())
    )
