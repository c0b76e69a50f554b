"""Triton over gRPC: one reused connection, and all candidates in as few batches as the model allows."""

import numpy as np
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.limits import TRITON_MAX_BATCH
from data_exchange_center.serving_names import TRITON_DENSE, TRITON_MODEL, TRITON_OUTPUT, TRITON_SPARSE
from data_exchange_center.settings import Settings
from online.callers.types import ServedModel, ServiceUnavailable

# A restarted server is used again within a second; by default gRPC waits for up to two minutes.
CHANNEL = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
FAULTS = (InferenceServerException, AttributeError, ValueError, TypeError)


class TritonCaller:
    """Scores with the model that offline_to_online/rank/s2_model_to_triton.py loaded."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """Opens the channel lazily; `timeout` is in seconds, for each call."""
        address = f"{settings.triton_host}:{settings.triton_grpc_port}"
        self._client = grpc.InferenceServerClient(address, channel_args=CHANNEL)
        self._timeout = timeout
        self._models: dict[str, ServedModel] = {}

    def ping(self) -> None:
        """Raises ServiceUnavailable unless the model is loaded."""
        try:
            if not self._client.is_model_ready(TRITON_MODEL, client_timeout=self._timeout):
                raise ValueError(f"{TRITON_MODEL} is not loaded")
        except FAULTS as error:
            raise ServiceUnavailable("triton", error) from error

    def model(self, version: str = "") -> ServedModel:
        """What the given version, or the newest, declares about itself.

        Raises:
            ServiceUnavailable: Triton does not respond, or has no such version.
        """
        try:
            config = self._client.get_model_config(TRITON_MODEL, version, client_timeout=self._timeout).config
            declared = {name: value.string_value for name, value in config.parameters.items()}
            return ServedModel(
                version=version,
                columns=tuple(filter(None, declared.get("columns", "").split(","))),
                feature_hash=declared.get("feature_hash", ""),
                state_digest=declared.get("state_digest", ""),
                blend_weight=float(declared.get("blend_weight", "nan")),
            )
        except FAULTS as error:
            raise ServiceUnavailable("triton", error) from error

    def load(self) -> None:
        """Makes Triton load the newest version folder; the old version is served until then.

        Raises:
            ServiceUnavailable: Triton does not respond, or cannot load the model.
        """
        try:
            self._client.load_model(TRITON_MODEL, client_timeout=self._timeout)
        except InferenceServerException as error:
            raise ServiceUnavailable("triton", error) from error

    def score(self, sparse: Int64Array, dense: Float32Array) -> tuple[Float32Array, ServedModel]:
        """Logits of n candidates, all by one version of the model.

        Args:
            sparse: [n, 23], dense: [n, 36] as data_exchange_center.assembler makes them.

        Returns:
            [n] logits, and the model that made them.

        Raises:
            ServiceUnavailable: Triton does not respond in time, or responds with something else than n finite numbers.
        """
        try:
            return self._score(sparse, dense)
        except ServiceUnavailable as error:
            # A version may be replaced between two batches, or before its configuration is read; one retry is enough.
            if not _is_about_a_version(error):
                raise
            return self._score(sparse, dense)

    def _score(self, sparse: Int64Array, dense: Float32Array) -> tuple[Float32Array, ServedModel]:
        parts, version = [], ""
        for start in range(0, len(sparse), TRITON_MAX_BATCH):
            batch = slice(start, start + TRITON_MAX_BATCH)
            inputs = [
                grpc.InferInput(TRITON_SPARSE, list(sparse[batch].shape), "INT64"),
                grpc.InferInput(TRITON_DENSE, list(dense[batch].shape), "FP32"),
            ]
            for tensor, values in zip(inputs, (sparse[batch], dense[batch]), strict=True):
                tensor.set_data_from_numpy(np.ascontiguousarray(values))
            try:
                response = self._client.infer(TRITON_MODEL, inputs, model_version=version, client_timeout=self._timeout)
                parts.append(response.as_numpy(TRITON_OUTPUT).reshape(-1))
                version = response.get_response().model_version
            except FAULTS as error:
                raise ServiceUnavailable("triton", error) from error
        logits = np.concatenate(parts) if parts else np.empty(0, np.float32)
        if len(logits) != len(sparse) or not np.isfinite(logits).all():
            raise ServiceUnavailable("triton", f"version {version} did not return {len(sparse)} finite logits")
        model = self._models.get(version)
        if model is None:
            model = self.model(version)
            self._models = {version: model}  # the newest is enough: it has replaced the others
        return logits, model


def _is_about_a_version(error: ServiceUnavailable) -> bool:
    """Whether Triton lacks the requested version: it is not found, or no longer ready."""
    cause = error.__cause__
    return (
        isinstance(cause, InferenceServerException)
        and cause.status()
        in (
            "StatusCode.NOT_FOUND",
            "StatusCode.UNAVAILABLE",
            "StatusCode.INVALID_ARGUMENT",
        )
        and "version" in str(cause.message())
    )
