"""The two models as ONNX: exported, compared with PyTorch, served by Triton, and their weights read back."""

import hashlib
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array
from data_exchange_center.artefact import ArtefactError
from data_exchange_center.documents import RankerDocument
from data_exchange_center.features import RECALL_FEATURES, FeatureSet
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from data_exchange_center.serving_load import load_digest
from data_exchange_center.settings import Settings
from data_exchange_center.triton_models import ANY, RANKER, TOWER, TritonModel
from offline.rank.ranker import Ranker, ranker_from
from offline.recall.sequence_tower import SequenceTower, tower_from
from offline_to_online.loader import LoadError
from offline_to_online.model_repository import (
    MODEL_FILE,
    model_configuration,
    model_folder,
    remove_old_versions,
    versions,
    write_version,
)
from online.callers.triton_caller import TritonCaller

SCORE_TOLERANCE = 1e-5
COMPARED_ROWS, COMPARED_CANDIDATES = 8, 64
ITEM_SIDE = frozenset({"bias"})  # of the tower: only in the items' vectors, which Elasticsearch holds

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class TrainedModel:
    """A model as a training stage saved it, and what it is to be in Triton.

    Attributes:
        declared: its tensors.
        module: ready to use.
        feature_hash: of the features and ids that it was trained on.
        example: inputs within the features' ranges.
        not_exported: names in the state dict that the served part does not use.
    """

    declared: TritonModel
    module: nn.Module
    features: FeatureSet
    feature_hash: str
    example: Inputs
    not_exported: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """Fingerprint of all weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.module.state_dict().items()):
            digest.update(name.encode() + value.numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def outputs(self, inputs: Inputs) -> list[Float32Array]:
        """What PyTorch computes, in the order of the declaration."""
        outputs = self.module(*inputs)
        return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def trained_ranker() -> TrainedModel:
    """The ranking model of offline/rank/s3_candidate_ranker.py."""
    return ranker_of(catalogue.RANKER_META.load(), catalogue.RANKER_MODEL.load())


def ranker_of(document: RankerDocument, state: dict[str, Tensor]) -> TrainedModel:
    """The ranking model that a document and a state dict describe."""
    module = ranker_from(document, state)
    return TrainedModel(RANKER, module, module.deepfm.features, document.feature_hash, ranker_example(module))


def trained_tower() -> TrainedModel:
    """The user tower of offline/recall/s3_sequence_recall.py.

    Raises:
        ArtefactError: it was fitted to other ids than the present ones.
    """
    document, dataset = catalogue.TOWER_META.load(), catalogue.DATASET.load()
    if document.id_digest != dataset.id_digest:
        raise ArtefactError(
            f"{catalogue.TOWER_META.path} is of other ids than the data set's: run {catalogue.TOWER_META.writer} again."
        )
    module = tower_from(document, catalogue.TOWER_MODEL.load())
    return TrainedModel(TOWER, module, dataset.features, dataset.feature_hash, tower_example(module), ITEM_SIDE)


def ranker_example(ranker: Ranker) -> Inputs:
    """The ranker's inputs for some lists, drawn within the features' ranges; the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    shape, sizes = (COMPARED_ROWS, COMPARED_CANDIDATES), ranker.deepfm.settings.sizes
    sparse = torch.stack([torch.randint(0, size, shape, generator=generator) for size in sizes.values()], dim=2)
    dense = torch.randint(0, 11, (*shape, len(ranker.deepfm.features.dense)), generator=generator).float()
    recall = torch.randn((*shape, len(RECALL_FEATURES)), generator=generator)
    items = len(ranker.knowledge.vectors)
    recent = torch.randint(0, items, (COMPARED_ROWS, RANKER_IMPRESSIONS), generator=generator)
    liked = torch.randint(0, 2, recent.shape, generator=generator)
    return sparse, dense, recall, recent, liked


def tower_example(tower: SequenceTower) -> Inputs:
    """The tower's inputs for some users, one of them with a single impression; the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(0, len(tower.items), (COMPARED_ROWS, TOWER_IMPRESSIONS), generator=generator)
    items[0, :-1] = 0
    return items, torch.randint(0, 2, items.shape, generator=generator) * (items > 0)


def to_onnx(model: TrainedModel) -> bytes:
    """The model with the declared inputs and outputs.

    Raises:
        onnx.checker.ValidationError: the export is not valid ONNX.
    """
    for verbose in ("torch.onnx", "onnx_ir"):
        logging.getLogger(verbose).setLevel(logging.ERROR)  # they report every pass, and that torchvision is absent
    batch, candidates = torch.export.Dim("batch"), torch.export.Dim("candidates")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            model.module,
            model.example,
            input_names=[tensor.name for tensor in model.declared.inputs],
            output_names=[tensor.name for tensor in model.declared.outputs],
            dynamic_shapes=tuple(
                {0: batch, 1: candidates} if tensor.shape[0] == ANY else {0: batch} for tensor in model.declared.inputs
            ),
            dynamo=True,
            optimize=False,  # folding would merge weights, which the consistency check compares one by one
            verbose=False,
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    return content


def largest_difference(expected: list[Float32Array], found: list[Float32Array]) -> float:
    """Of two models' outputs."""
    return max(float(np.abs(one - other).max(initial=0)) for one, other in zip(expected, found, strict=True))


def compare_with_pytorch(model: TrainedModel, content: bytes) -> float:
    """Largest difference between PyTorch's and onnxruntime's outputs.

    Raises:
        LoadError: it is above SCORE_TOLERANCE.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names, outputs = ([tensor.name for tensor in part] for part in (model.declared.inputs, model.declared.outputs))
    # In other sizes, too, than those that were exported: a size that the exporter took for a constant would fail here.
    smaller = tuple(part[:3, :7] if part.dim() == 3 else part[:3] for part in model.example)
    difference = 0.0
    for inputs in (model.example, smaller):
        feed = {name: values.numpy() for name, values in zip(names, inputs, strict=True)}
        found: Any = session.run(outputs, feed)
        difference = max(difference, largest_difference(model.outputs(inputs), found))
    if not difference <= SCORE_TOLERANCE:
        raise LoadError(f"the exported model differs from PyTorch by {difference:.2g}, more than {SCORE_TOLERANCE}.")
    return difference


def load_into_triton(model: TrainedModel, settings: Settings, caller: TritonCaller) -> str:
    """Exports, compares, writes a new version, makes Triton load it, and compares what it serves.

    Returns:
        A sentence that tells what is served.

    Raises:
        LoadError: the exported or the served model computes something else than the trained one.
    """
    content = to_onnx(model)
    difference, digest = compare_with_pytorch(model, content), model.digest
    folder = model_folder(settings, model.declared)
    configuration = model_configuration(model.declared, model.features, model.feature_hash, load_digest(), digest)
    version = write_version(folder, content, configuration)
    caller.load(model.declared)
    check_served(model, caller, str(version))
    remove_old_versions(folder)
    return loaded_sentence(model, version, len(content), difference)


def check_served(model: TrainedModel, caller: TritonCaller, version: str) -> None:
    """Returns when every Triton computes by a version, loaded and the newest or one of several, what PyTorch does.

    Raises:
        LoadError: one does not.
        ServiceUnavailable: a Triton does not respond, or has no such version.
    """
    pinned = version if model.declared == RANKER else ""  # of the tower the newest is served, which must be this one
    for node in caller.each:
        found, served = node.infer(model.declared, [values.numpy() for values in model.example], pinned)
        error = largest_difference(model.outputs(model.example), found)
        if served.version != version or not error <= SCORE_TOLERANCE:
            raise LoadError(
                f"Triton serves version {served.version} of {model.declared.name}, whose outputs differ by up to "
                f"{error:.2g}; version {version} was loaded."
            )


def loaded_sentence(model: TrainedModel, version: int, size: int, difference: float) -> str:
    """Says which version is served; `size` of the ONNX in bytes, `difference` of onnxruntime from PyTorch."""
    return (
        f"{model.declared.name} version {version} ({size / 1e6:.1f} MB, weights {model.digest}) is served by Triton; "
        f"onnxruntime differs from PyTorch by {difference:.1g} at most"
    )


def weights_in(file: Path) -> Mapping[str, npt.NDArray[np.generic]]:
    """The tensors stored in a model.onnx by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}


def first_different_weight(model: TrainedModel, file: Path) -> str | None:
    """The first parameter whose value in the exported file is not the model's, as a sentence; None if all are equal."""
    exported = weights_in(file)
    for name, value in model.module.state_dict().items():
        if name in model.not_exported:
            continue
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


def weight_difference(model: TrainedModel, digest: str, version: str, settings: Settings) -> str | None:
    """What tells that the served weights are not the trained ones; None if they are.

    Args:
        model: as trained.
        digest: of the weights that are served, as it was noted when they were loaded.
        version: which is served; the newest where it is empty.
        settings: where the model repository is.
    """
    folder = model_folder(settings, model.declared)
    file = folder / (version or str(max(versions(folder), default=0))) / MODEL_FILE
    weight = first_different_weight(model, file)
    if not weight and digest != model.digest:
        weight = f"Triton serves the weights {digest or 'none'}, but {model.digest} were trained"
    return f"{model.declared.name}: {weight}" if weight else None
