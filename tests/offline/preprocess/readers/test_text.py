"""Establishes that text is read as it was written: lines, encodings, quotes; and that a refusal says the rule."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from data_exchange_center.limits import LARGEST_ID
from offline.preprocess.readers import comma_separated, double_colon, tab_separated
from offline.preprocess.readers.layout import Layout
from offline.preprocess.readers.text import DataError, read_fields, read_lines

# One film of each layout: what stands before the title, and what behind it.
AROUND = {
    "::": (double_colon.LAYOUT, "{id}::", "::Drama"),
    ",": (comma_separated.LAYOUT, '{id},"', '",Drama'),
    "|": (tab_separated.LAYOUT, "{id}|", "|01-Jan-1995||http://x|" + "|".join("0" * 8 + "1" + "0" * 10)),
}
each_layout = pytest.mark.parametrize("kind", AROUND)


def written(folder: Path, kind: str, *titles: bytes, end: bytes = b"\n") -> tuple[Layout, Path]:
    layout, before, behind = AROUND[kind]
    lines = [b"movieId,title,genres"] if kind == "," else []
    lines += [before.format(id=at).encode() + title + behind.encode() for at, title in enumerate(titles, start=1)]
    file = folder / layout.movies
    file.write_bytes(end.join([*lines, b""]))
    return layout, file


@each_layout
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "iso-8859-1", "cp1252"])
def test_titles_read_as_they_were_written(tmp_path: Path, kind: str, encoding: str, end: bytes) -> None:
    titles = ["Le Fabuleux destin d'Amélie Poulain", "Ångström: A Life (1990)", "Café Zürich, The", "Á, Ð, Ý, Í"]
    titles += ["東京"] * encoding.startswith("utf") + ["Don’t – “Look”…".replace('"', "")] * (encoding == "cp1252")
    layout, file = written(tmp_path, kind, *(title.encode(encoding.removesuffix("-sig")) for title in titles), end=end)
    if encoding == "utf-8-sig":
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    movies = layout.read_movies(file)
    assert movies["title"].tolist() == titles
    assert movies["itemid"].tolist() == list(range(1, len(titles) + 1)) and movies["genres"].tolist()[-1] == ["Drama"]


def test_another_encoding_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout, file = written(tmp_path, "::", b"Plain", "Amélie".encode(), "Amélie".encode("latin-1"), b"\x81\xe9")
    with caplog.at_level(logging.INFO):
        assert layout.read_movies(file)["title"].tolist() == ["Plain", "Amélie", "Amélie", "\x81é"]
    (record,) = caplog.records
    assert record.getMessage().startswith("movies.dat: 2 lines are not UTF-8, the first is line 3")


@each_layout
@pytest.mark.parametrize("character", ["\x85", "\u2028", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_lines_end_at_line_feeds_alone(tmp_path: Path, kind: str, character: str) -> None:
    titles = [f"A{character}B (1990)", "C"]
    layout, file = written(tmp_path, kind, *(title.encode() for title in titles))
    assert layout.read_movies(file)["title"].tolist() == titles


@each_layout
def test_a_carriage_return_within_a_line_is_a_blank(tmp_path: Path, kind: str) -> None:
    layout, file = written(tmp_path, kind, b"A\rB", b"C")
    assert layout.read_movies(file)["title"].tolist() == ["A B", "C"]


def test_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_bytes("1::A::Drama\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16: save it as UTF-8"):
        double_colon.LAYOUT.read_movies(tmp_path / "movies.dat")


@each_layout
def test_a_film_that_stands_twice_is_named_with_its_line(tmp_path: Path, kind: str) -> None:
    layout, file = written(tmp_path, kind, b"A", b"B", b"C")
    file.write_bytes(file.read_bytes().replace(b"\n3", b"\n01"))
    number = 4 if kind == "," else 3
    with pytest.raises(
        DataError, match=rf"{layout.movies}, line {number}: .* 1 stands twice, and each id has one line"
    ):
        layout.read_movies(file)


@each_layout
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("x", "is no positive integer"),
        ("", "is no positive integer"),
        ("0", "is no positive integer"),
        ("\u0663", "is no positive integer"),
        (str(LARGEST_ID + 1), f"is beyond {LARGEST_ID}"),
        ("900719925474099001", f"is beyond {LARGEST_ID}"),
        ("9" * 30, f"is beyond {LARGEST_ID}"),
    ],
)
def test_an_id_that_nobody_could_ask_for_is_refused(tmp_path: Path, kind: str, text: str, rule: str) -> None:
    layout, file = written(tmp_path, kind, b"A", b"B")
    file.write_text(file.read_text().replace("\n2", f"\n{text}"), "utf-8")
    with pytest.raises(DataError) as error:
        layout.read_movies(file)
    assert f"{file}, line {3 if kind == ',' else 2}: " in str(error.value) and rule in str(error.value)


def test_quotes_hold_commas_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n"
        '11,"American President, The (1995)",Comedy|Romance\n'
        '3,"""Great Performances"" Cats (1998)",Musical\n'
        '5,Say "Cheese" (1990),(no genres listed)\n'
    )
    movies = comma_separated.LAYOUT.read_movies(tmp_path / "movies.csv")
    assert movies["title"].tolist() == [
        "American President, The (1995)",
        '"Great Performances" Cats (1998)',
        'Say "Cheese" (1990)',
    ]
    assert movies["genres"].tolist() == [["Comedy", "Romance"], ["Musical"], []]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('2,"B, The,Drama', "a quote is opened and not closed"),
        ('2,B,"Drama', "a quote is opened and not closed"),
        ("2,B, The,Drama", "4 fields where movieId,title,genres are 3"),
        ("2,B", "2 fields where movieId,title,genres are 3"),
    ],
)
def test_a_malformed_line_of_a_csv_is_named(tmp_path: Path, line: str, rule: str) -> None:
    file = tmp_path / "movies.csv"
    file.write_text(f'movieId,title,genres\n1,A,Drama\n{line}\n3,"C",Drama\n4,"D",Drama\n')
    with pytest.raises(DataError) as error:
        comma_separated.LAYOUT.read_movies(file)
    assert f"{file}, line 3: {rule}" in str(error.value) and line[:20] in str(error.value)


@pytest.mark.parametrize("header", ["", "1,A,Drama\n", "movieId,title\n", "movieId,title,genres,title\n"])
def test_a_csv_needs_its_header(tmp_path: Path, header: str) -> None:
    (tmp_path / "movies.csv").write_text(header)
    with pytest.raises(DataError, match="movieId,title,genres"):
        comma_separated.LAYOUT.read_movies(tmp_path / "movies.csv")


def test_no_line_gives_no_row(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    fields = read_fields(read_lines(tmp_path / "empty"), ("a", "b"), "|", quoted=False)
    assert isinstance(fields, pd.DataFrame) and fields.shape == (0, 2)
    assert double_colon.read_movies(tmp_path / "empty").shape == (0, 3)
    assert double_colon.read_users(tmp_path / "empty").shape == (0, 4)
    assert tab_separated.read_users(tmp_path / "empty").shape == (0, 4)
    assert tab_separated.read_movies(tmp_path / "empty").shape == (0, 3)
