"""What a fit goes on from when its process was killed: its state after the last epoch, beside the artefacts.

A stage's fits are numbered. Those that are finished are kept, too, until the stage has written its artefacts, so that a
stage killed in its fifth fit does not begin with the first. They lie in a folder named after all that they follow from:
those of other code, data or settings are never gone on from, but removed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_exchange_center.artefact import Artefacts
from data_exchange_center.digests import file_digest
from data_exchange_center.settings import ROOT, Settings
from offline import distributed
from offline.sources import sources_of

FOLDER = ".checkpoints"

State = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The place of one fit's state."""

    file: Path

    def load(self, name: str) -> State | None:
        """The state of the fit of that name; None where there is none."""
        if not self.file.exists():
            return None
        state: State = torch.load(self.file, weights_only=True, map_location="cpu")
        return state if state["name"] == name else None

    def save(self, name: str, state: State) -> None:
        """Replaces the state in one move; of several processes, which all have the same, the first one does so."""
        if not distributed.is_first():
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_suffix(".draft")
        with draft.open("wb") as opened:
            torch.save({"name": name, **state}, opened)
        os.replace(draft, self.file)


class _Stage:
    def __init__(self, folder: Path) -> None:
        self._folder, self._fits = folder, 0

    def next(self) -> Checkpoint:
        self._fits += 1
        return Checkpoint(self._folder / f"{self._fits:03}.pt")


_stage: ContextVar[_Stage | None] = ContextVar("_stage", default=None)


@contextmanager
def checkpoints_of(module: str, reads: Artefacts) -> Iterator[None]:
    """Fits within the block keep checkpoints, which are removed when it ends as it should.

    Args:
        module: the stage's name.
        reads: what it reads.
    """
    folder = Settings().artefacts / FOLDER / module
    own = folder / _key(module, reads)
    if distributed.is_first():
        for other in folder.glob("*"):
            if other != own:
                shutil.rmtree(other)
    token = _stage.set(_Stage(own))
    try:
        yield
    finally:
        _stage.reset(token)
    if distributed.is_first():
        shutil.rmtree(folder, ignore_errors=True)


def next_checkpoint() -> Checkpoint | None:
    """The place for the next fit's state; None outside of a stage, where nothing is kept."""
    stage = _stage.get()
    return stage.next() if stage else None


def _key(module: str, reads: Artefacts) -> str:
    """A digest of all that the stage's fits follow from."""
    stats = {a.path: a.file.stat() for a in reads if a.file.exists()}
    follows_from = {
        "code": {str(file.relative_to(ROOT)): file_digest(file) for file in sorted(sources_of(module))},
        "reads": {path: [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()},
        "torch": torch.__version__,
        "memory": Settings().training_memory_mib,
    }
    return hashlib.sha256(json.dumps(follows_from).encode()).hexdigest()[:16]


def generators_state(generator: np.random.Generator | None) -> State:
    """The states of PyTorch's generators, and of one of numpy's."""
    state: State = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    if generator is not None:
        state["numpy"] = json.dumps(generator.bit_generator.state)
    return state


def set_generators(state: State, generator: np.random.Generator | None) -> None:
    """Takes back what `generators_state` returned."""
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
    if generator is not None:
        generator.bit_generator.state = json.loads(state["numpy"])
