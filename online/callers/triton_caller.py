"""Triton over gRPC: one reused connection, all candidates in as few batches as the model takes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from data_exchange_center.serving_names import (
    TRITON_DENSE,
    TRITON_MAX_BATCH,
    TRITON_MODEL,
    TRITON_OUTPUT,
    TRITON_SPARSE,
)
from data_exchange_center.settings import Settings
from online.callers.types import ServiceUnavailable


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the loaded model says of itself; the loader writes it into the model's configuration."""

    columns: tuple[str, ...]
    feature_hash: str
    state_digest: str


class TritonCaller:
    """Asks the model that offline_to_online/rank/s2_model_to_triton.py loaded."""

    def __init__(self, settings: Settings, timeout: float, expected_hash: str | None = None) -> None:
        """Opens the channel lazily.

        Args:
            settings: host and port.
            timeout: seconds for each call.
            expected_hash: of the features; answers of a model with another one are refused.
        """
        self._client = grpc.InferenceServerClient(f"{settings.triton_host}:{settings.triton_grpc_port}")
        self._timeout = timeout
        self._expected = expected_hash
        self._trusted: set[str] = set()

    def model(self, version: str = "") -> ServedModel:
        """What the given, or the newest, version says of itself.

        Raises:
            ServiceUnavailable: Triton does not answer or has no such version.
        """
        try:
            config = self._client.get_model_config(TRITON_MODEL, version, client_timeout=self._timeout).config
        except InferenceServerException as error:
            raise ServiceUnavailable("triton", error) from error
        said = {name: value.string_value for name, value in config.parameters.items()}
        columns = tuple(filter(None, said.get("columns", "").split(",")))
        return ServedModel(columns, said.get("feature_hash", ""), said.get("state_digest", ""))

    def load(self) -> None:
        """Makes Triton load the newest version folder; the old one answers until then.

        Raises:
            ServiceUnavailable: Triton does not answer or cannot load the model.
        """
        try:
            self._client.load_model(TRITON_MODEL, client_timeout=self._timeout)
        except InferenceServerException as error:
            raise ServiceUnavailable("triton", error) from error

    def score(
        self, sparse: npt.NDArray[np.int64], dense: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], str]:
        """Logits of n candidates.

        Args:
            sparse: [n, 23], dense: [n, 36] as data_exchange_center.assembler makes them.

        Returns:
            [n] logits, and the version of the model that made them.

        Raises:
            ServiceUnavailable: Triton does not answer in time; or its model was trained on other features.
        """
        logits, version = [], ""
        for start in range(0, len(sparse), TRITON_MAX_BATCH):
            batch = slice(start, start + TRITON_MAX_BATCH)
            inputs = [
                grpc.InferInput(TRITON_SPARSE, list(sparse[batch].shape), "INT64"),
                grpc.InferInput(TRITON_DENSE, list(dense[batch].shape), "FP32"),
            ]
            for tensor, values in zip(inputs, (sparse[batch], dense[batch]), strict=True):
                tensor.set_data_from_numpy(np.ascontiguousarray(values))
            try:
                # Later batches of one request go to the version that answered the first.
                answer = self._client.infer(TRITON_MODEL, inputs, model_version=version, client_timeout=self._timeout)
                logits.append(answer.as_numpy(TRITON_OUTPUT).reshape(-1))
                version = answer.get_response().model_version
            except (InferenceServerException, AttributeError, ValueError) as error:
                raise ServiceUnavailable("triton", error) from error
        self._check(version)
        return np.concatenate(logits) if logits else np.empty(0, np.float32), version

    def _check(self, version: str) -> None:
        """Refuses a version trained on other features; each version is asked once."""
        if self._expected is None or version in self._trusted:
            return
        found = self.model(version).feature_hash
        if found != self._expected:
            raise ServiceUnavailable(
                "triton",
                f"version {version} of {TRITON_MODEL} was trained on features with the hash {found or 'none'}, this "
                f"server has {self._expected}: run `make offline load` and restart the server",
            )
        self._trusted.add(version)
