"""The versions of the ranking model that Triton holds side by side, and which of them is served.

A version is a folder of the model repository: the ONNX that Triton runs and, beside it, what it was exported from and
what it belongs to, so that the consistency check can compare any version with its own weights. All versions are of one
load: they know its ids, its features and its tower's vectors. A load of other ones takes the place of all.
"""

import io
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, ValidationError

from data_exchange_center import catalogue
from data_exchange_center.dataset import Document
from data_exchange_center.documents import RankerDocument
from data_exchange_center.serving_load import load_digest
from data_exchange_center.settings import Settings
from data_exchange_center.triton_models import RANKER
from offline.rank.ranker import Ranker
from offline_to_online.exported_model import (
    TrainedModel,
    check_served,
    compare_with_pytorch,
    first_different_weight,
    loaded_sentence,
    ranker_of,
    to_onnx,
)
from offline_to_online.loader import LoadError
from offline_to_online.model_repository import (
    MODEL_FILE,
    model_configuration,
    model_folder,
    remove_versions,
    versions,
    write_version,
)
from online.callers.promoted_versions import PromotedVersions
from online.callers.triton_caller import TritonCaller

MOST_VERSIONS = 4  # loaded at a time; without Docker each takes 76 MiB of memory at MovieLens-1M's scale
MOST_REMEMBERED = 20  # promotions that can be rolled back, as long as their versions are there
VERSION_FILE, DOCUMENT_FILE, STATE_FILE = "version.json", "ranker.json", "ranker.pt"


class RankingVersion(Document):
    """What a version was exported from, and what it belongs to."""

    dataset: str
    loaded_at: Annotated[str, Field(description="when it was exported, in UTC")]
    feature_hash: str
    load_digest: str
    state_digest: Annotated[str, Field(description="of all weights")]
    ndcg_at_10: Annotated[float | None, Field(alias="ndcg@10", description="on test, where it was measured")] = None


def stored_versions(settings: Settings) -> dict[int, RankingVersion]:
    """The versions in the model repository, by number, oldest first; what says nothing of itself is none."""
    folder, found = model_folder(settings, RANKER), {}
    for version in versions(folder):
        try:
            found[version] = RankingVersion.model_validate_json((folder / str(version) / VERSION_FILE).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            continue  # of the time when Triton held one version; the next load removes it
    return found


def kept_ranker(settings: Settings, version: int) -> TrainedModel:
    """The model that a version was exported from, as it was kept.

    Raises:
        LoadError: it is not there.
    """
    folder = model_folder(settings, RANKER) / str(version)
    try:
        document = RankerDocument.model_validate_json((folder / DOCUMENT_FILE).read_bytes())
        return ranker_of(document, torch.load(folder / STATE_FILE, weights_only=True, map_location="cpu"))
    except (FileNotFoundError, ValidationError, EOFError, RuntimeError) as error:
        raise LoadError(f"what version {version} was exported from cannot be read ({error}): `make load`.") from error


def kept_files(document: RankerDocument, model: TrainedModel, told: RankingVersion) -> dict[str, bytes]:
    """What lies beside a version's ONNX, by file name."""
    state = io.BytesIO()
    torch.save(model.module.state_dict(), state)
    return {
        VERSION_FILE: told.model_dump_json(by_alias=True, indent=2).encode(),
        DOCUMENT_FILE: document.model_dump_json(by_alias=True, indent=2).encode(),
        STATE_FILE: state.getvalue(),
    }


def check_belongs(model: TrainedModel) -> None:
    """Returns where a ranking model knows the features, ids and vectors of the present artefacts.

    Raises:
        LoadError: it was fitted to others. Loaded beside them, it would score other users' items.
    """
    remedy = "run offline/rank/s3_candidate_ranker.py again."
    declared = catalogue.DATASET.load().feature_hash
    if model.feature_hash != declared:
        raise LoadError(
            f"the ranking model is of the features {model.feature_hash}, the data set's are {declared}: {remedy}"
        )
    vectors = catalogue.SEQUENCE_ITEM_VECTORS.load()[:, :-1]
    assert isinstance(model.module, Ranker)
    if not np.array_equal(model.module.knowledge.vectors.numpy(), vectors):
        raise LoadError(f"the ranking model was fitted beside another user tower's vectors of the items: {remedy}")


def superfluous(stored: dict[int, RankingVersion], load: str, promoted: tuple[int, ...]) -> set[int]:
    """The versions that make room for a new one: those of other loads, and the oldest beyond MOST_VERSIONS.

    The one that is served and the one before it stay, however old they are.
    """
    of_load = [version for version, told in stored.items() if told.load_digest == load]
    protected = [version for version in of_load if version in promoted[-2:]]
    others = [version for version in of_load if version not in protected]
    room = MOST_VERSIONS - 1 - len(protected)
    return set(stored) - {*protected, *others[len(others) - room if len(others) > room else 0 :]}


def add_version(
    document: RankerDocument,
    model: TrainedModel,
    settings: Settings,
    triton: TritonCaller,
    promoted: tuple[int, ...],
    ndcg_at_10: float | None = None,
) -> tuple[int, str]:
    """Makes every Triton hold the model beside the versions that are there, and compares what it computes.

    The same weights get no new version. Which version is served does not change.

    Args:
        document: what the model's state dict needs.
        model: as trained.
        settings: where the model repository is.
        triton: all Tritons.
        promoted: the versions that were promoted, the present one last.
        ndcg_at_10: on test, for whoever looks at the table of versions.

    Returns:
        Its number, and a sentence that tells what is loaded.

    Raises:
        LoadError: the model does not belong to the present artefacts, or what was exported or loaded computes something
            else; then the version is gone again.
        ServiceUnavailable: a Triton does not respond.
    """
    check_belongs(model)
    load, folder = load_digest(), model_folder(settings, RANKER)
    told = RankingVersion(
        dataset=document.dataset,
        loaded_at=datetime.now(UTC).isoformat(" ", "seconds"),
        feature_hash=model.feature_hash,
        load_digest=load,
        state_digest=model.digest,
        ndcg_at_10=ndcg_at_10,
    )
    stored = stored_versions(settings)
    version = same_version(stored, told, model, folder)
    content = to_onnx(model) if version is None else (folder / str(version) / MODEL_FILE).read_bytes()
    difference = compare_with_pytorch(model, content)
    if version is None:
        configuration = model_configuration(
            RANKER, model.features, model.feature_hash, load, side_by_side=MOST_VERSIONS
        )
        files = kept_files(document, model, told)
        unknown = set(versions(folder)) - set(stored)
        version = write_version(folder, content, configuration, files, after=max(promoted, default=0))
        remove_versions(folder, superfluous(stored, load, promoted) | unknown)
    triton.load(RANKER)
    try:
        check_served(model, triton, str(version))
    except LoadError:
        remove_versions(folder, [version])
        triton.load(RANKER)
        raise
    return version, loaded_sentence(model, version, len(content), difference)


def same_version(
    stored: dict[int, RankingVersion], told: RankingVersion, model: TrainedModel, folder: Path
) -> int | None:
    """The version with the same weights for the same load, where there is one and its file is whole."""
    for version, other in reversed(stored.items()):
        if told.model_copy(update={"loaded_at": other.loaded_at, "ndcg_at_10": other.ndcg_at_10}) == other:
            is_whole = first_different_weight(model, folder / str(version) / MODEL_FILE) is None
            return version if is_whole else None
    return None


# --- which one is served ---------------------------------------------------------------------------------------------


def with_promoted(before: tuple[int, ...], version: int, stored: dict[int, RankingVersion]) -> tuple[int, ...]:
    """The promoted versions once this one is served; those that are gone are forgotten."""
    present = [version for version, _ in groupby([*(known for known in before if known in stored), version])]
    return tuple(present[-MOST_REMEMBERED:])


def served_version(promoted: tuple[int, ...], settings: Settings) -> int | None:
    """The version that is served: the one promoted last, else the newest; None where there is none."""
    return promoted[-1] if promoted else max(stored_versions(settings), default=None)


def switch(pointer: PromotedVersions, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """Serves another version from now on, unless somebody else has switched meanwhile.

    Raises:
        LoadError: somebody has.
        ServiceUnavailable: Redis does not respond.
    """
    if not pointer.replace(before, after):
        raise LoadError("another version was promoted meanwhile, and stays: `make promote` shows it.")


def check_can_serve(version: int, settings: Settings, triton: TritonCaller) -> None:
    """Returns where a version can be served with what the stores hold, by every Triton.

    Raises:
        LoadError: it is not there, of another load or of other features, or computes something else than it did when
            it was exported.
        ServiceUnavailable: a Triton does not respond, or has not loaded it.
    """
    stored, see = stored_versions(settings), "`make promote` lists the versions."
    told = stored.get(version)
    if told is None:
        there = ", ".join(map(str, stored)) or "none"
        raise LoadError(f"{RANKER.name} has no version {version}; there are: {there}. {see}")
    for what, own, present in (
        ("was trained on features with the hash", told.feature_hash, catalogue.DATASET.load().feature_hash),
        ("is of the load", told.load_digest, load_digest()),
    ):
        if own != present:
            raise LoadError(
                f"version {version} {what} {own}, and the artefacts have {present}: `make load` adds theirs."
            )
    for node in triton.each:
        if not node.is_ready(RANKER, str(version)):
            raise LoadError(f"version {version} is not loaded in every Triton: `make load`. {see}")
    model = kept_ranker(settings, version)
    if model.digest != told.state_digest:
        raise LoadError(f"what is kept of version {version} are other weights than were exported: `make load`. {see}")
    check_served(model, triton, str(version))
