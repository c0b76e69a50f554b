"""Tells the layout of a folder by its files."""

from pathlib import Path

from offline.preprocess.readers import comma_separated, double_colon, tab_separated
from offline.preprocess.readers.layout import DataSource, Layout, RawData, read_readable
from offline.preprocess.readers.own_table.description import DESCRIPTION, SUFFIXES, read_description
from offline.preprocess.readers.own_table.source import OwnTable
from offline.preprocess.readers.text import DataError

LAYOUTS = (double_colon.LAYOUT, comma_separated.LAYOUT, tab_separated.LAYOUT)
OWN = f"{DESCRIPTION}, which describes a table of your own"


def _fitting(folder: Path) -> list[Layout]:
    return [layout for layout in LAYOUTS if all((folder / name).is_file() for name in layout.required)]


def recognise(folder: Path, remedy: str) -> DataSource:
    """The folder with its layout. One with a dataset.toml is a table of one's own, whatever else it holds.

    Args:
        remedy: what to do where no layout fits.

    Raises:
        DataError: no layout fits, or more than one; the message says what was looked for.
    """
    if (folder / DESCRIPTION).is_file():
        return OwnTable(folder, read_readable(read_description, folder / DESCRIPTION))
    fitting = _fitting(folder)
    if len(fitting) == 1:
        return RawData(folder, fitting[0])
    if fitting:
        found = " and ".join(f"{layout.ratings} with {layout.movies}" for layout in fitting)
        raise DataError(f"{folder} fits {len(fitting)} layouts: {found} are there. Leave the files of one there.")
    looked_for = "; ".join(f"{layout.ratings} with {layout.movies} ({layout.releases})" for layout in LAYOUTS)
    there = [name for layout in LAYOUTS for name in layout.required if (folder / name).is_file()]
    what = f"of these it has {', '.join(there)}" if there else "it has none of these"
    own = [name for suffix in SUFFIXES if (folder / (name := f"ratings{suffix}")).is_file()]
    if not folder.is_dir():
        what = "there is no such folder"
    elif own:
        what += f"; for {own[0]} as a table of your own, {DESCRIPTION} is missing, and an empty one will do at first"
    elif inside := sorted(
        place.name
        for place in folder.iterdir()
        if (place / DESCRIPTION).is_file() or (place.is_dir() and _fitting(place))
    ):
        what += f"; its folder {inside[0]} fits"
    raise DataError(f"{folder} fits no layout. Looked for {looked_for}; {OWN}: {what}. {remedy}.")
