"""Downloads the releases of MovieLens from GroupLens, whose licence forbids redistribution."""

import logging
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pooch

from offline.preprocess.readers import comma_separated, double_colon, tab_separated
from offline.preprocess.readers.layout import Layout
from offline.preprocess.readers.text import DataError

logger = logging.getLogger(__name__)

ADDRESS = "https://files.grouplens.org/datasets/movielens"


@dataclass(frozen=True)
class Release:
    """An archive at GroupLens.

    Args:
        layout: of the files in it.
        url: of the archive.
        md5: of the archive, as GroupLens gives it; None for a release that changes.
    """

    layout: Layout
    url: str
    md5: str | None


RELEASES = {
    name: Release(layout, f"{ADDRESS}/{name}.zip", md5)
    for name, layout, md5 in (
        ("ml-100k", tab_separated.LAYOUT, "0e33842e24a9c977be4e0107933c0723"),
        ("ml-1m", double_colon.LAYOUT, "c4d9eecfca2ab87c1945afe126590906"),
        ("ml-10m", double_colon.LAYOUT, "ce571fd55effeba0271552578f2648bd"),
        ("ml-20m", comma_separated.LAYOUT, "cd245b17a1ae2cc31bb14903e1204af3"),
        ("ml-25m", comma_separated.LAYOUT, "6b51fb2759a8657d3bfcbfc42b592ada"),
        ("ml-32m", comma_separated.LAYOUT, "d472be332d4daa821edc399621853b57"),
        ("ml-latest-small", comma_separated.LAYOUT, None),
        ("ml-latest", comma_separated.LAYOUT, None),
    )
}


def download(release: Release, folder: Path) -> None:
    """Downloads, checks and unpacks a release; its files appear complete or not at all.

    Raises:
        DataError: the server cannot be reached, the archive's md5 differs, or it cannot be unpacked.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    name = PurePosixPath(release.url).name
    by_hand = f"Unpack {name} yourself and set DATA_DIR to its folder, or use DATASET=generated."
    with tempfile.TemporaryDirectory() as beside:
        try:
            archive = Path(
                pooch.retrieve(
                    release.url,
                    known_hash=release.md5 and f"md5:{release.md5}",
                    fname=name,
                    path=beside,
                    downloader=pooch.HTTPDownloader(progressbar=True, timeout=30),
                )
            )
        except OSError as error:
            raise DataError(f"{release.url} cannot be downloaded ({error}). {by_hand}") from error
        except ValueError as error:  # pooch's own, when the hash differs
            raise DataError(
                f"{release.url} has not the md5 {release.md5}: the download is damaged or was replaced; try again."
            ) from error
        if release.md5 is None:
            size = f"{archive.stat().st_size:,}"
            logger.warning("%s changes from time to time: %s bytes, no checksum to compare with.", name, size)
        try:
            _unpack(archive, release.layout, folder)
        except zipfile.BadZipFile as error:
            raise DataError(
                f"{release.url} cannot be unpacked ({error}): the download is damaged; try again."
            ) from error
        except OSError as error:
            raise DataError(f"{name} cannot be unpacked into {folder} ({error}): make room there.") from error


def _unpack(archive: Path, layout: Layout, folder: Path) -> None:
    """The files of the layout, from whatever folder they have in the archive.

    Raises:
        zipfile.BadZipFile: a file is missing or damaged.
    """
    with zipfile.ZipFile(archive) as packed:
        members = {PurePosixPath(member.filename).name: member for member in packed.infolist() if not member.is_dir()}
        if lacking := [name for name in layout.required if name not in members]:
            raise zipfile.BadZipFile(f"it lacks {', '.join(lacking)}")
        names = [name for name in (layout.users, *layout.required) if name in members]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            for name in names:
                with packed.open(members[name]) as content, (Path(beside) / name).open("wb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)
            for name in names:  # the ratings last: their presence says that the data set is complete
                os.replace(Path(beside) / name, folder / name)
