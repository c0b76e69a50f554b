"""Stand-ins under /var/tmp for folders that a server cannot use under their own names."""

import hashlib
import os
import re
from pathlib import Path

from services.processes import ServiceError

STAND_INS = Path("/var/tmp")


def reachable_folder(folder: Path, user: int | None) -> Path:
    """`folder`, or a stand-in for it when `user` could not enter it (a clone under root's own home)."""
    if user is None:
        return folder
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if all(path.stat().st_mode & 0o001 for path in (existing, *existing.parents)):
        return folder
    return stand_in(folder)


def plain_path(folder: Path) -> Path:
    """`folder`, or a link to it where its name holds what a shell would not take literally.

    For Triton, whose Python backend starts its stub by an unquoted `bash -c`: a space or a quote ends a path there.

    Raises:
        ServiceError: something else stands where the link should.
    """
    if re.fullmatch(r"[\w./+@-]+", str(folder)):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    link = stand_in(folder)
    if not os.path.lexists(link):
        link.symlink_to(folder, target_is_directory=True)
    if not link.is_symlink() or link.readlink() != folder or link.lstat().st_uid != os.geteuid():
        raise ServiceError(f"{link} should be a link to {folder}, and is something else: remove it.")
    return link


def stand_in(folder: Path) -> Path:
    """The place that `folder` alone has under /var/tmp, with a plain name; nothing is there yet."""
    return STAND_INS / f"recsys_pipeline-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
