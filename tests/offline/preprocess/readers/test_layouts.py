"""Establishes that a sample of each MovieLens release is recognised, and comes out of the first stage as it should."""

import logging
from pathlib import Path

import pytest

from data_exchange_center import catalogue
from data_exchange_center.vocabularies import AGES as CODES
from data_exchange_center.vocabularies import OCCUPATIONS as OCCUPATION_CODES
from data_exchange_center.vocabularies import indices
from offline.preprocess import s1_data_split
from offline.preprocess.readers import double_colon, tab_separated
from offline.preprocess.readers.categories import OCCUPATIONS
from offline.preprocess.readers.recognise import LAYOUTS, recognise
from offline.preprocess.readers.text import DataError

FLAGS = "|".join("0" * 19)
ML_100K = {
    "u.data": "1\t2\t3\t881250949\n1\t1\t5\t881250950\n3\t267\t4\t881250951\n",
    "u.user": "1|24|M|technician|85711\n2|17|F|student|94043\n3|56|X|student|0\n4|7|M|astronaut|V3N4P\n5|x|F|none|1\n",
    "u.item": (
        f"1|Amélie (1995)|01-Jan-1995||http://a|{FLAGS[:6]}1|1|1{FLAGS[11:]}\n"
        f"2|Plain (1995)|01-Jan-1995||http://a|{FLAGS[:-1]}1\n267|unknown||||1{FLAGS[1:]}\n"
    ),
    "u.genre": "unknown|0\nAction|1\n",
    "ua.base": "1\t1\t5\t874965758\n",
}
ML_1M = {
    "ratings.dat": "1::2::3::978300760\n1::1::5::978300761\n3::267::4::978300762\n",
    "users.dat": "1::M::25::17::85711\n2::F::1::10::94043\n3::F::99::4::0\n",
    "movies.dat": "1::Amélie (1995)::Animation|Children's|Comedy\n2::Plain (1995)::Western\n267::None::\n",
}
ML_10M = {
    "ratings.dat": "1::2::2.5::838985046\n1::1::5::838983525\n3::267::0.5::838983392\n",
    "movies.dat": (
        "1::Amélie (1995)::Animation|Children|Comedy|IMAX\n2::A: B (1995)::Western\n267::N::(no genres listed)\n"
    ),
    "tags.dat": "15::4973::excellent!::1215184630\n",
}
ML_25M = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,2,2.5,1147880044\n1,1,5.0,1147868817\n3,267,0.5,1147868828\n",
    "movies.csv": (
        "movieId,title,genres\n1,Amélie (1995),Animation|Children|Comedy|IMAX\n"
        '2,"Plain, The (1995)",Western\n267,None,(no genres listed)\n'
    ),
    "tags.csv": "userId,movieId,tag,timestamp\n3,260,classic,1439472355\n",
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n",
}
SAMPLES = {"ml-100k": ML_100K, "ml-1m": ML_1M, "ml-10m": ML_10M, "ml-25m": ML_25M}
IN_LATIN_1 = ("ml-100k", "ml-1m")
CHILDREN = ["Animation", "Children's", "Comedy"]


def unpacked(folder: Path, release: str) -> Path:
    folder /= release
    folder.mkdir()
    for name, text in SAMPLES[release].items():
        (folder / name).write_text(text, "iso-8859-1" if release in IN_LATIN_1 else "utf-8", newline="\r\n")
    return folder


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The artefacts of the first stage, from the release that the test names."""
    folder = unpacked(tmp_path, request.param)
    monkeypatch.setenv("DATA_DIR", str(folder))
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path / "artefacts"))
    s1_data_split.main()
    return folder


def of_release(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("split", names, indirect=True)


@of_release(*SAMPLES)
def test_each_release_goes_through_the_first_stage(split: Path) -> None:
    items = catalogue.ITEMS.load().to_pydict()
    assert items["itemid"] == [1, 2, 267] and items["title"][0] == "Amélie (1995)"
    assert items["genres"] == [CHILDREN, ["Western"], []]
    rows = catalogue.ONLINE_IMPRESSIONS.load().to_pydict()
    assert rows["userid"] == [1, 1, 3] and sorted(rows["itemid"][:2]) == [1, 2]
    halves = split.name in ("ml-10m", "ml-25m")
    assert sorted(rows["rating"]) == ([0.5, 2.5, 5.0] if halves else [3.0, 4.0, 5.0])
    assert catalogue.DATASET.load().rows.repeated == 0


@of_release("ml-10m", "ml-25m")
def test_without_demographics_all_are_unknown(split: Path, caplog: pytest.LogCaptureFixture) -> None:
    users = catalogue.USERS.load().to_pydict()
    assert users["userid"] == [1, 3]
    assert users["gender"] == users["age"] == users["occupation"] == [0, 0]


def test_what_is_missing_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DATA_DIR", str(unpacked(tmp_path, "ml-25m")))
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path / "artefacts"))
    with caplog.at_level(logging.INFO):
        s1_data_split.main()
    users, thin, genres = (record.getMessage() for record in caplog.records)
    assert thin.startswith("The stages after preprocessing will refuse these data: too little to fit")
    assert users.endswith("holds no users' file: gender, age and occupation are unknown (index 0).")
    assert genres == "1 unknown values of genre (IMAX) are taken as index 0."


@of_release("ml-100k")
def test_ages_and_occupations_of_ml_100k_become_ml_1m_s(split: Path) -> None:
    users = catalogue.USERS.load().to_pydict()
    assert users["userid"] == [1, 2, 3, 4, 5]
    assert users["gender"] == [1, 2, 0, 1, 2]
    assert users["age"] == [*(indices(CODES)[code] for code in ("18", "1", "56", "1")), 0]
    assert users["occupation"] == [18, 11, 5, 0, 20]


def test_each_age_has_its_group(tmp_path: Path) -> None:
    (tmp_path / "u.user").write_text("".join(f"{age + 1}|{age}|M|other|0\n" for age in range(100)))
    found = tab_separated.read_users(tmp_path / "u.user")["age"].tolist()
    assert found == [str(max([int(code) for code in CODES if int(code) <= age], default=1)) for age in range(100)]


def test_occupations_of_ml_100k_are_codes_of_ml_1m() -> None:
    assert len(OCCUPATIONS) == 20  # of 21: a student's code depends on the age
    assert set(OCCUPATIONS.values()) < set(map(int, OCCUPATION_CODES))


def test_a_flag_is_0_or_1(tmp_path: Path) -> None:
    (tmp_path / "u.item").write_text(f"1|A||||{FLAGS}\n2|B||||2{FLAGS[1:]}\n")
    with pytest.raises(DataError, match=r"u.item, line 2: a genre's flag is neither 0 nor 1"):
        tab_separated.read_movies(tmp_path / "u.item")


@pytest.mark.parametrize(
    ("name", "line", "rule"),
    [
        ("users.dat", "2::M", "2 fields are not UserID::Gender::Age::Occupation::Zip"),
        ("users.dat", "2::M:F::1::1::1", "without a colon but in the last"),
        ("movies.dat", "2::A", "2 fields are not MovieID::Title::Genre|Genre"),
        ("movies.dat", "2::A::Dra:ma", "without a colon but in the title"),
        ("u.user", "2|24|M|writer", "4 fields where user id|age|gender|occupation|zip code are 5"),
        ("u.item", "2|A|||", "5 fields where movie id|title|"),
    ],
)
def test_a_malformed_line_is_named_with_its_rule(tmp_path: Path, name: str, line: str, rule: str) -> None:
    first = {**ML_100K, **ML_1M}[name].split("\n")[0]
    (tmp_path / name).write_text(f"{first}\n{line}\n")
    (reader,) = (
        read
        for layout in LAYOUTS
        for file, read in ((layout.users, layout.read_users), (layout.movies, layout.read_movies))
        if file == name and read
    )
    with pytest.raises(DataError) as error:
        reader(tmp_path / name)
    assert f"{tmp_path / name}, line 2: " in str(error.value) and rule in str(error.value)


def test_titles_hold_colons(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_text("1::Star Wars: Episode IV (1977)::Action|Sci-Fi\n2::A::B, (1995)::Drama\n")
    movies = double_colon.read_movies(tmp_path / "movies.dat")
    assert movies["title"].tolist() == ["Star Wars: Episode IV (1977)", "A::B, (1995)"]
    assert movies["genres"].tolist() == [["Action", "Sci-Fi"], ["Drama"]]


# --- recognition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", SAMPLES)
def test_a_layout_is_recognised_by_its_files(tmp_path: Path, release: str) -> None:
    data = recognise(unpacked(tmp_path, release), "")
    read = {name for name in SAMPLES[release] if name.split(".")[0] in ("ratings", "users", "movies")}
    assert {file.name for file in data.files} == (read or {"u.data", "u.user", "u.item"})
    (tmp_path / release / data.layout.ratings).unlink()
    with pytest.raises(DataError) as error:
        recognise(tmp_path / release, "Do this")
    message = str(error.value)
    assert message.startswith(f"{tmp_path / release} fits no layout. Looked for ratings.dat with movies.dat (")
    assert f"of these it has {data.layout.movies}. Do this." in message


def test_two_layouts_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, "ml-10m")
    for name, text in ML_25M.items():
        (folder / name).write_text(text, "utf-8")
    with pytest.raises(DataError) as error:
        recognise(folder, "")
    assert str(error.value) == (
        f"{folder} fits 2 layouts: ratings.dat with movies.dat and ratings.csv with movies.csv are there. "
        "Leave the files of one there."
    )


def test_a_folder_that_lies_above_a_data_set_is_told_which(tmp_path: Path) -> None:
    unpacked(tmp_path, "ml-25m")
    with pytest.raises(DataError, match=r"it has none of these; its folder ml-25m fits\. Do this\."):
        recognise(tmp_path, "Do this")
    with pytest.raises(DataError, match="there is no such folder"):
        recognise(tmp_path / "nowhere", "Do this")


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = recognise(unpacked(tmp_path, "ml-1m"), "")

    def refuse(file: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"movies.dat cannot be read \(Permission denied\)"):
        data.movies()
