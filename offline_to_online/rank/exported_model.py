"""DeepFM as ONNX: exported, compared with PyTorch, and its weights read back."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from data_exchange_center import catalogue
from data_exchange_center.features import DENSE, SPARSE
from data_exchange_center.serving_names import TRITON_DENSE, TRITON_OUTPUT, TRITON_SPARSE
from offline.rank.deepfm import DeepFM, deepfm_from
from offline_to_online.loader import LoadError

SCORE_TOLERANCE = 1e-5
COMPARED_ROWS = 512


def trained_model() -> DeepFM:
    """DeepFM as the training stage saved it, ready to score."""
    return deepfm_from(catalogue.DEEPFM_META.load().settings, catalogue.DEEPFM_MODEL.load())


def state_digest(model: DeepFM) -> str:
    """Fingerprint of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()[:16]


def to_onnx(model: DeepFM) -> bytes:
    """The model with inputs `sparse_features` [n, 23] and `dense_features` [n, 36], and the output `logit` [n, 1].

    Raises:
        onnx.checker.ValidationError: the export is not valid ONNX.
    """
    for verbose in ("torch.onnx", "onnx_ir"):
        logging.getLogger(verbose).setLevel(logging.ERROR)  # they report every pass, and that torchvision is absent
    sparse, dense = example_inputs(model, 4)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        model,
        (sparse, dense),
        input_names=[TRITON_SPARSE, TRITON_DENSE],
        output_names=[TRITON_OUTPUT],
        dynamic_shapes={"sparse_features": {0: batch}, "dense_features": {0: batch}},
        dynamo=True,
        optimize=False,  # folding would merge weights, which the consistency check compares one by one
        verbose=False,
    )
    assert program is not None
    content = program.model_proto.SerializeToString()
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    return content


def example_inputs(model: DeepFM, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random inputs within the features' ranges, the same ones every time: [rows, 23] sparse and [rows, 36] dense."""
    generator = torch.Generator().manual_seed(0)
    sizes = model.settings.sizes
    sparse = torch.stack(
        [torch.randint(0, sizes[feature.name], (rows,), generator=generator) for feature in SPARSE], dim=1
    )
    return sparse, torch.randint(0, 11, (rows, len(DENSE)), generator=generator).float()


def compare_with_pytorch(model: DeepFM, content: bytes) -> float:
    """Largest difference between PyTorch's and onnxruntime's scores.

    Raises:
        LoadError: it is above SCORE_TOLERANCE.
    """
    sparse, dense = example_inputs(model, COMPARED_ROWS)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    onnx_scores: Any = session.run([TRITON_OUTPUT], {TRITON_SPARSE: sparse.numpy(), TRITON_DENSE: dense.numpy()})
    with torch.no_grad():
        difference = float(np.abs(model(sparse, dense).numpy() - onnx_scores[0]).max())
    if not difference <= SCORE_TOLERANCE:
        raise LoadError(f"the exported model differs from PyTorch by {difference:.2g}, more than {SCORE_TOLERANCE}.")
    return difference


def weights_in(file: Path) -> Mapping[str, npt.NDArray[np.generic]]:
    """The tensors stored in a model.onnx by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}


def first_different_weight(model: DeepFM, file: Path) -> str | None:
    """The first parameter whose value in the exported file is not the model's, as a sentence; None if all are equal."""
    exported = weights_in(file)
    for name, value in model.state_dict().items():
        expected = value.numpy()
        found = exported.get(name)
        if found is None:
            return f"weight {name}: not in {file}"
        if found.shape != expected.shape:
            return f"weight {name}: shape {found.shape} in {file}, trained {expected.shape}"
        wrong = np.argwhere(found != expected)
        if len(wrong):
            place = tuple(map(int, wrong[0]))
            return f"weight {name}{list(place)}: {found[place]!r} in {file}, trained {expected[place]!r}"
    return None
