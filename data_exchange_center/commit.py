"""How a stage's artefacts appear: all of them together, or none.

They are written beside their places, the list of moves is recorded in one file, and only then are they moved. A stage
killed before the record leaves the old files; one killed after it is completed by the next reader.
"""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from data_exchange_center.artefact import Artefact, ArtefactError, Artefacts, Content
from data_exchange_center.settings import Settings

_COMMITS = ".commits"
NO_ROOM = 1 << 20  # bytes

# Where the stage that is writing has put what it has written so far: what it reads meanwhile are its own artefacts.
written_by: ContextVar[Mapping[Artefact[Any], Path]] = ContextVar("written_by", default=MappingProxyType({}))


class Writer:
    """Collects a stage's outputs beside their places; see `writing`."""

    def __init__(self, promised: Artefacts) -> None:
        """Writes nothing yet; `promised` are the artefacts that must be written."""
        self._promised = promised
        self._suffix = f".{uuid.uuid4().hex}.tmp"
        self.written: dict[Artefact[Any], Path] = {}

    def save(self, artefact: Artefact[Content], content: Content) -> None:
        """Writes one artefact beside its place, checked against its declaration.

        Raises:
            ArtefactError: it is not among the promised ones, or is not what the catalogue declares.
        """
        if artefact not in self._promised:
            raise ArtefactError(f"{artefact.path} is not among the WRITES of this stage.")
        place = artefact.file.with_name(artefact.file.name + self._suffix)
        self.written[artefact] = place
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            artefact.write(place, content)
        except RuntimeError as error:  # PyTorch's, where a file cannot be written
            if shutil.disk_usage(place.parent).free > NO_ROOM:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place)) from error

    def check_complete(self) -> None:
        """Raises ArtefactError when something promised was not written."""
        missing = [a.path for a in self._promised if a not in self.written]
        if missing:
            raise ArtefactError(f"The stage promised {missing} in its WRITES and did not write them.")

    def commit(self) -> None:
        """Moves all files into their places."""
        root = Settings().artefacts
        move_together([(str(p.relative_to(root)), a.path) for a, p in self.written.items()], self._suffix)

    def discard(self) -> None:
        """Removes what was written beside the places."""
        for place in self.written.values():
            _remove(place)


def move_together(moves: Sequence[tuple[str, str]], suffix: str) -> None:
    """Moves files or folders into the places of others: all of them, or none; a killed process's moves are completed.

    Args:
        moves: from and to, both relative to the root of the artefacts.
        suffix: of the record: `.NAME.tmp`, another one each time.
    """
    folder = Settings().artefacts / _COMMITS
    folder.mkdir(exist_ok=True)
    draft, record = folder / f"{suffix}.draft", folder / f"{suffix}.json"
    draft.write_text(json.dumps(moves))
    os.replace(draft, record)
    complete_interrupted_commits()


def complete_interrupted_commits() -> None:
    """Carries out the recorded moves that a killed stage left; several processes may do so at once."""
    root = Settings().artefacts
    for record in sorted((root / _COMMITS).glob(".*.tmp.json")):
        try:
            moves = json.loads(record.read_text())
        except FileNotFoundError:
            continue  # another process has just completed it
        for source, target in moves:
            try:
                _replace(root / source, root / target)
            except FileNotFoundError:
                if not (root / target).exists():
                    raise
        record.unlink(missing_ok=True)


def remove_leftovers(artefacts: Artefacts) -> None:
    """Removes the half-written files that a killed run of the same stage left beside its artefacts."""
    complete_interrupted_commits()
    for artefact in artefacts:
        for left in artefact.file.parent.glob(f"{artefact.file.name}.*.tmp"):
            _remove(left)


def _replace(source: Path, target: Path) -> None:
    """Moves a file or a folder to its place, whatever was there.

    A file replaces a file in one step. Where a folder is involved, the old one is moved aside first: a process killed
    in between leaves the move to the next reader, as any other.
    """
    if source.exists() and (source.is_dir() or target.is_dir()) and target.exists():
        aside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.old.tmp")
        os.replace(target, aside)
        os.replace(source, target)
        _remove(aside)
    else:
        os.replace(source, target)


def _remove(place: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


@contextmanager
def writing(promised: Artefacts) -> Iterator[Writer]:
    """Writes a stage's artefacts: all of `promised` appear together at the end of the block, or none.

    Raises:
        ArtefactError: something not promised was written, or something promised was not.
    """
    remove_leftovers(promised)
    writer = Writer(promised)
    token = written_by.set(writer.written)
    try:
        yield writer
        writer.check_complete()
    except BaseException:
        writer.discard()
        raise
    finally:
        written_by.reset(token)
    writer.commit()
