"""The kinds of artefacts, and how each is read, checked and written; which ones exist is in catalogue.py.

Tables, which carry more than the others, are in table_artefact.py.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from data_exchange_center.settings import Settings

Content = TypeVar("Content")
Document = TypeVar("Document", bound=BaseModel)


class ArtefactError(Exception):
    """An artefact is missing or is not what the catalogue declares; the message names the stage to run."""

    is_expected = True


@dataclass(frozen=True, eq=False)
class Artefact(ABC, Generic[Content]):
    """One file that a stage hands to others."""

    path: str
    writer: str  # the stage that makes it
    about: str

    @property
    def file(self) -> Path:
        """Where it lies under the present settings."""
        return Settings().artefacts / self.path

    def existing_file(self) -> Path:
        """The file, after any interrupted commit is completed; within `writing`, what the stage has just written.

        Raises:
            ArtefactError: it is missing.
        """
        from data_exchange_center.commit import complete_interrupted_commits, written_by  # which imports this module

        complete_interrupted_commits()
        file = written_by.get().get(self, self.file)
        if not file.exists():
            raise ArtefactError(f"{file} is missing. It is made by {self.writer}: run that stage, or `make offline`.")
        return file

    @abstractmethod
    def write(self, file: Path, content: Content) -> None:
        """Writes the content to `file`, checked against the declaration."""


Artefacts = tuple[Artefact[Any], ...]


@dataclass(frozen=True, eq=False)
class Array(Artefact[npt.NDArray[Any]]):
    """An npy file of one declared dtype."""

    dtype: str

    def load(self, mapped: bool = False) -> npt.NDArray[Any]:
        """The array, read-only and read as it is used where it is to be `mapped`.

        Raises:
            ArtefactError: the file is missing, or holds another dtype.
        """
        mode: Literal["r"] | None = "r" if mapped else None
        array: npt.NDArray[Any] = np.load(self.existing_file(), mmap_mode=mode, allow_pickle=False)
        if str(array.dtype) != self.dtype:
            raise ArtefactError(f"{self.path} holds {array.dtype}, the catalogue declares {self.dtype}.")
        return array

    def write(self, file: Path, content: npt.NDArray[Any]) -> None:
        """Writes the array in the declared dtype.

        Raises:
            ArtefactError: a value is not finite: a model that diverged must not be served.
        """
        array = content.astype(self.dtype)
        if not np.isfinite(array).all():
            raise ArtefactError(f"{self.path} would hold values that are not finite: it is not written.")
        with file.open("wb") as opened:
            np.save(opened, array, allow_pickle=False)


@dataclass(frozen=True, eq=False)
class Json(Artefact[Document]):
    """A JSON file with a pydantic model of data_exchange_center/documents.py or dataset.py."""

    model: type[Document]

    def load(self) -> Document:
        """The document.

        Raises:
            ArtefactError: the file is missing, or is not what the model declares.
        """
        file = self.existing_file()
        try:
            return self.model.model_validate_json(file.read_bytes())
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            raise ArtefactError(f"{file}: {place}: {fault['msg']}: run {self.writer} again.") from error

    def write(self, file: Path, content: Document) -> None:
        """Writes the document; NaN is refused, since JSON has none."""
        fields = content.model_dump(mode="json", by_alias=True, exclude_none=True)
        text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        file.write_text(text, "utf-8")


@dataclass(frozen=True, eq=False)
class StateDict(Artefact[dict[str, Any]]):
    """A PyTorch model's state dict: tensors only, so that nothing in the file can run code."""

    def load(self) -> dict[str, Any]:
        """The tensors by name, on the CPU.

        Raises:
            ArtefactError: the file is missing.
        """
        import torch  # not at the top: the server imports this module and must stay free of torch

        state: dict[str, Any] = torch.load(self.existing_file(), weights_only=True, map_location="cpu")
        return state

    def write(self, file: Path, content: dict[str, Any]) -> None:
        """Writes the tensors.

        Raises:
            ArtefactError: a value is not finite.
        """
        import torch

        infinite = [name for name, tensor in content.items() if not torch.isfinite(tensor).all()]
        if infinite:
            raise ArtefactError(f"{self.path} would hold values that are not finite in {infinite}: it is not written.")
        with file.open("wb") as opened:  # not by name, which torch would write into the file
            torch.save(content, opened)
