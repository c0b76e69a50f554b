"""Establishes that raw files are read exactly, and that what is malformed is named with file, line and reason."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from offline.preprocess.movielens import DataError, download_ml_1m, read_movies, read_ratings, read_users
from tests.conftest import run_module

RATINGS = "1::1193::5::978300760\n6040::3952::0.5::0\n900001::7::4::978300761\n"


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, "iso-8859-1")
    return file


@pytest.mark.parametrize("text", [RATINGS, RATINGS.replace("\n", "\r\n"), RATINGS.rstrip("\n")])
def test_ratings_are_read_in_file_order(tmp_path: Path, text: str) -> None:
    table = read_ratings(write(tmp_path, "ratings.dat", text))
    assert table.to_pydict() == {
        "userid": [1, 6040, 900001],
        "itemid": [1193, 3952, 7],
        "rating": [5.0, 0.5, 4.0],
        "timestamp": [978300760, 0, 978300761],
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1::2::3", "3 fields"),
        ("1::2::3::4::5", "5 fields"),
        ("x::2::3::4", "UserID 'x'"),
        ("0::2::3::4", "UserID '0'"),
        ("1::-2::3::4", "MovieID '-2'"),
        ("1::2::6::4", "Rating '6'"),
        ("1::2::nan::4", "Rating 'nan'"),
        ("1::2::3::", "Timestamp ''"),
        ("1::2::3::-4", "Timestamp '-4'"),
        ("1:7::2::3::4", "UserID '1:7'"),
        ("", "1 fields"),
        ("1,2,3,4", "1 fields"),
    ],
)
def test_a_malformed_rating_is_named(tmp_path: Path, line: str, reason: str) -> None:
    file = write(tmp_path, "ratings.dat", RATINGS + line + "\n" + RATINGS)
    with pytest.raises(DataError) as error:
        read_ratings(file)
    assert f"{file}, line 4: " in str(error.value) and reason in str(error.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        read_ratings(write(tmp_path, "ratings.dat", ""))


def test_titles_hold_colons_and_accents(tmp_path: Path) -> None:
    text = "1::Star Wars: Episode IV (1977)::Action|Sci-Fi\n700000::Misérables::Les, (1995)::Drama\n"
    movies = read_movies(write(tmp_path, "movies.dat", text))
    assert movies["title"].tolist() == ["Star Wars: Episode IV (1977)", "Misérables::Les, (1995)"]
    assert movies["genres"].tolist() == [["Action", "Sci-Fi"], ["Drama"]]


def test_users_and_movies_name_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"users.dat, line 2"):
        read_users(write(tmp_path, "users.dat", "1::M::1::10::48067\n2::M\n"))
    with pytest.raises(DataError, match=r"movies.dat, line 2: itemid 1 stands twice"):
        read_movies(write(tmp_path, "movies.dat", "1::A::Drama\n1::B::Drama\n"))


def test_a_stage_shows_the_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """The whole way: status 1, one line, no traceback, no artefact."""
    write(tmp_path, "ratings.dat", RATINGS + "oops\n")
    write(tmp_path, "users.dat", "1::M::1::10::48067\n")
    write(tmp_path, "movies.dat", "1::A::Drama\n")
    env = {"DATA_DIR": str(tmp_path), "ARTEFACTS_DIR": str(tmp_path / "artefacts")}
    done = run_module("offline.preprocess.s1_data_split", **env)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "line 4" in done.stderr and "Traceback" not in done.stderr
    assert not [file for file in tmp_path.glob("artefacts/**/*") if file.is_file()]

    done = run_module("offline.preprocess.s1_data_split", **{**env, "DATA_DIR": str(tmp_path / "nowhere")})
    assert done.returncode == 1 and "DATA_DIR must name a folder" in done.stderr
    done = run_module("offline.preprocess.s2_term_trans", **env)
    assert done.returncode == 1 and "run that stage" in done.stderr and "s1_data_split.py" in done.stderr


@pytest.fixture
def archive() -> Iterator[tuple[str, str]]:
    """A zip like GroupLens's on a local server: its address and md5."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name in ("ratings", "users", "movies"):
            packed.writestr(f"ml-1m/{name}.dat", f"{name} content\n")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content.getvalue())))
            self.end_headers()
            self.wfile.write(content.getvalue())

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/ml-1m.zip", hashlib.md5(content.getvalue()).hexdigest()
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_download_is_checked(tmp_path: Path, archive: tuple[str, str]) -> None:
    url, md5 = archive
    with pytest.raises(DataError, match="md5"):
        download_ml_1m(tmp_path / "wrong", url, "0" * 32)
    assert not (tmp_path / "wrong").exists()
    download_ml_1m(tmp_path / "right", url, md5)
    assert {file.name: file.read_text() for file in (tmp_path / "right").iterdir()} == {
        f"{name}.dat": f"{name} content\n" for name in ("ratings", "users", "movies")
    }
    with pytest.raises(DataError, match="DATA_DIR"):
        download_ml_1m(tmp_path / "gone", "http://127.0.0.1:9/ml-1m.zip", md5)
