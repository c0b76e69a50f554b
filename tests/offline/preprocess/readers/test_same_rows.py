"""Establishes that the same ratings come out as the same rows, labels, splits and genres whatever their layout."""

import csv
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from data_exchange_center import catalogue
from data_exchange_center.vocabularies import GENRES
from offline.preprocess import s1_data_split
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.scale import Scale

Rows = list[list[str]]


def lines_of(file: Path) -> Rows:
    return [line.split("::") for line in file.read_text("iso-8859-1").splitlines()]


def write(file: Path, rows: Rows, delimiter: str, encoding: str = "utf-8") -> None:
    file.write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding)


def as_ml_10m(folder: Path, ratings: Rows, movies: Rows) -> None:
    write(folder / "ratings.dat", ratings, "::")
    write(folder / "movies.dat", [[*rest, genres.replace("Children's", "Children")] for *rest, genres in movies], "::")


def as_ml_25m(folder: Path, ratings: Rows, movies: Rows) -> None:
    with (folder / "ratings.csv").open("w", newline="") as content:
        csv.writer(content).writerows([["userId", "movieId", "rating", "timestamp"], *ratings])
    with (folder / "movies.csv").open("w", newline="", encoding="utf-8") as content:
        csv.writer(content).writerows([["movieId", "title", "genres"], *movies])


def as_ml_100k(folder: Path, ratings: Rows, movies: Rows) -> None:
    write(folder / "u.data", ratings, "\t")
    flags = [["0", *(str(int(genre in genres.split("|"))) for genre in GENRES)] for _, _, genres in movies]
    items = [[itemid, title, "", "", "", *own] for (itemid, title, _), own in zip(movies, flags, strict=True)]
    write(folder / "u.item", items, "|", "iso-8859-1")


def as_an_own_table(folder: Path, ratings: Rows, movies: Rows) -> None:
    table = pd.DataFrame(ratings, columns=["who", "what", "stars", "when"]).astype(int)
    table.assign(when=pd.to_datetime(table["when"], unit="s", utc=True)).to_parquet(folder / "ratings.parquet")
    pd.DataFrame(movies, columns=["what", "title", "genres"]).to_csv(folder / "items.csv", index=False)
    names = 'userid = "who"\nitemid = "what"\nrating = "stars"\ntimestamp = "when"\n'
    (folder / "dataset.toml").write_text(f"[ratings]\n{names}")


def preprocessed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[pa.Table]:
    monkeypatch.setenv("DATA_DIR", str(folder))
    monkeypatch.setenv("ARTEFACTS_DIR", str(folder.parent / f"artefacts of {folder.name}"))
    s1_data_split.main()
    columns = ["itemid", "item_index", "title", "genres"]
    rows = (catalogue.OFFLINE_IMPRESSIONS.load(), catalogue.ONLINE_IMPRESSIONS.load(), catalogue.ITEMS.load(columns))
    return list(rows)


@pytest.mark.parametrize("convert", [as_ml_10m, as_ml_25m, as_ml_100k, as_an_own_table])
def test_the_layout_does_not_matter(
    convert: Callable[[Path, Rows, Rows], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, other = tmp_path / "raw", tmp_path / "other"
    generate(raw, Scale(users=150, items=200, ratings=6_000, max_userid=400, max_itemid=900), seed=4)
    other.mkdir()
    convert(other, lines_of(raw / "ratings.dat"), lines_of(raw / "movies.dat"))
    for expected, found in zip(preprocessed(raw, monkeypatch), preprocessed(other, monkeypatch), strict=True):
        assert found.equals(expected)
