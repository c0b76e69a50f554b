"""Gets the three raw files by the settings DATASET and DATA_DIR, and reads them.

    python -m offline.preprocess.movielens      (or: make data)

`DATASET=generated` writes them with synthetic/; `DATASET=ml-1m` downloads MovieLens-1M from GroupLens, whose licence
forbids redistribution; `DATA_DIR=folder` takes any folder in the same layout:

    ratings.dat  UserID::MovieID::Rating::Timestamp
    users.dat    UserID::Gender::Age::Occupation::Zip
    movies.dat   MovieID::Title::Genre|Genre           (ISO-8859-1)
"""

import logging
import os
import re
import tempfile
import zipfile
from pathlib import Path

import pandas as pd
import pooch
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data_exchange_center.columns import HIGHEST_RATING, LOWEST_RATING, Column
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.oracle import ORACLE_FILE

logger = logging.getLogger(__name__)

RATINGS_FILE, USERS_FILE, MOVIES_FILE = "ratings.dat", "users.dat", "movies.dat"
FILES = (RATINGS_FILE, USERS_FILE, MOVIES_FILE)
ML_1M_URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
ML_1M_MD5 = "c4d9eecfca2ab87c1945afe126590906"


class DataError(Exception):
    """The raw data cannot be had or read; the message names the file, the line and the rule."""

    is_expected = True


def read_ratings(file: Path) -> pa.Table:
    """ratings.dat in file order.

    Args:
        file: lines of UserID::MovieID::Rating::Timestamp; ids positive integers, ratings 0.5 to 5, seconds >= 0.

    Returns:
        userid int64, itemid int64, rating float32, timestamp int64.

    Raises:
        DataError: the file is empty or a line is malformed: the first one is named with its number and the reason.
    """
    # Split at every single colon, `::` gives an empty column between two fields: Arrow's parser, which knows
    # one-character delimiters only, then reads 1,000,209 lines in a tenth of a second.
    fields = {
        Column.USERID: pa.int64(),
        Column.ITEMID: pa.int64(),
        Column.RATING: pa.float32(),
        Column.TIMESTAMP: pa.int64(),
    }
    names: list[str] = []
    for name in fields:
        names += [name, f"after {name}"]
    names.pop()
    try:
        table = pyarrow.csv.read_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(column_names=names),
            parse_options=pyarrow.csv.ParseOptions(delimiter=":", quote_char=False, ignore_empty_lines=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: fields.get(name, pa.null()) for name in names}, null_values=[""]
            ),
        ).select(list(fields))
    except pa.ArrowInvalid as error:
        raise _first_malformed_rating(file, str(error)) from error
    valid = (
        all(column.null_count == 0 for column in table.columns)
        and pc.min(table[Column.USERID]).as_py() > 0
        and pc.min(table[Column.ITEMID]).as_py() > 0
        and pc.min(table[Column.TIMESTAMP]).as_py() >= 0
        and pc.all(pc.is_finite(table[Column.RATING])).as_py()
        and pc.min(table[Column.RATING]).as_py() >= LOWEST_RATING
        and pc.max(table[Column.RATING]).as_py() <= HIGHEST_RATING
    )
    if not valid:
        raise _first_malformed_rating(file, "a value is out of range")
    return table


def _first_malformed_rating(file: Path, fallback: str) -> DataError:
    """Only after the fast reader has refused the file: finds the line to show."""
    if file.stat().st_size == 0:
        return DataError(f"{file} is empty: it needs lines of UserID::MovieID::Rating::Timestamp.")
    with file.open(encoding="iso-8859-1") as lines:
        for number, line in enumerate(lines, start=1):
            reason = _rating_fault(line.rstrip("\r\n"))
            if reason:
                return DataError(f"{file}, line {number}: {reason}. The line reads {line.strip()[:80]!r}.")
    return DataError(f"{file} cannot be read: {fallback}.")


def _rating_fault(line: str) -> str | None:
    parts = line.split("::")
    if len(parts) != 4:
        return f"{len(parts)} fields where UserID::MovieID::Rating::Timestamp are 4"
    for name, text in (("UserID", parts[0]), ("MovieID", parts[1])):
        if not re.fullmatch(r"\d{1,18}", text, re.ASCII) or int(text) == 0:
            return f"{name} {text!r} is no positive integer"
    if not re.fullmatch(r"\d+(\.\d+)?", parts[2], re.ASCII) or not LOWEST_RATING <= float(parts[2]) <= HIGHEST_RATING:
        return f"Rating {parts[2]!r} is no number from {LOWEST_RATING} to {HIGHEST_RATING}"
    if not re.fullmatch(r"\d{1,18}", parts[3], re.ASCII):
        return f"Timestamp {parts[3]!r} is no count of seconds"
    return None


def _fields(file: Path, pattern: str) -> pd.DataFrame:
    """The named groups of `pattern`, matched on each whole line; the first line that does not match is an error."""
    text = file.read_text("iso-8859-1")
    lines = pd.Series(text.splitlines() if text else [], dtype="str")
    fields = lines.str.extract(f"^{pattern}$")
    wrong = fields.isna().any(axis=1).to_numpy().nonzero()[0]
    if len(wrong):
        raise DataError(f"{file}, line {wrong[0] + 1}: not of the layout. The line reads {lines[wrong[0]][:80]!r}.")
    ids = fields.columns[0]
    fields[ids] = fields[ids].astype("int64")
    twice = fields[ids].duplicated().to_numpy().nonzero()[0]
    if len(twice):
        raise DataError(f"{file}, line {twice[0] + 1}: {ids} {fields[ids][twice[0]]} stands twice.")
    return fields


def read_users(file: Path) -> pd.DataFrame:
    """users.dat: userid int64; gender, age and occupation as text, so that an unknown one can be counted.

    Raises:
        DataError: a malformed line or a userid that stands twice.
    """
    return _fields(
        file,
        rf"(?P<{Column.USERID}>0*[1-9]\d{{0,17}})::(?P<{Column.GENDER}>[^:]*)::(?P<{Column.AGE}>[^:]*)::(?P<{Column.OCCUPATION}>[^:]*)::.*",
    )


def read_movies(file: Path) -> pd.DataFrame:
    """movies.dat: itemid int64, title, genres as lists of text. A title may hold colons.

    Raises:
        DataError: a malformed line or an itemid that stands twice.
    """
    movies = _fields(
        file, rf"(?P<{Column.ITEMID}>0*[1-9]\d{{0,17}})::(?P<{Column.TITLE}>.*)::(?P<{Column.GENRES}>[^:]*)"
    )
    movies[Column.GENRES] = movies[Column.GENRES].str.split("|")
    return movies


def download_ml_1m(folder: Path, url: str = ML_1M_URL, md5: str = ML_1M_MD5) -> None:
    """Downloads, checks and unpacks MovieLens-1M.

    Raises:
        DataError: the server cannot be reached, or the archive's md5 differs; nothing is left in `folder` then.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as beside:
        try:
            archive = pooch.retrieve(
                url,
                known_hash=f"md5:{md5}",
                fname="ml-1m.zip",
                path=beside,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=30),
            )
        except OSError as error:
            raise DataError(
                f"{url} cannot be downloaded ({error}). Unpack ml-1m.zip yourself and set DATA_DIR to its folder, "
                "or use DATASET=generated."
            ) from error
        except ValueError as error:  # pooch's own, when the hash differs
            raise DataError(
                f"{url} has not the md5 {md5}: the download is damaged or was replaced; try again."
            ) from error
        _unpack(Path(archive), folder)


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside, zipfile.ZipFile(archive) as packed:
        for name in FILES:
            (Path(beside) / name).write_bytes(packed.read(f"ml-1m/{name}"))
        for name in reversed(FILES):
            os.replace(Path(beside) / name, folder / name)


def check_present(settings: Settings) -> Path:
    """The folder with the three files.

    Raises:
        DataError: one is missing; the message says how to get it.
    """
    folder = settings.raw_data
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        remedy = "DATA_DIR must name a folder with all three" if settings.data_dir else "run `make data`"
        raise DataError(f"{folder} lacks {', '.join(missing)}: {remedy}.")
    return folder


def is_generated(folder: Path) -> bool:
    """Whether the present generator has written the folder: an earlier one wrote no oracle, and other ratings."""
    return (folder / RATINGS_FILE).is_file() and (folder / ORACLE_FILE).is_file()


def main() -> None:
    """Gets the data set if it is not there yet."""
    settings = Settings()
    folder = settings.raw_data
    if settings.data_dir is None:
        if settings.dataset == "generated" and not is_generated(folder):
            generate(folder, seed=settings.seed)
        elif settings.dataset == "ml-1m" and not (folder / RATINGS_FILE).is_file():
            download_ml_1m(folder)
    check_present(settings)
    print(f"data set {settings.dataset_name}: {folder}")


if __name__ == "__main__":
    run_stage(main)
